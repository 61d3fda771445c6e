# SPDX-License-Identifier: Apache-2.0
"""Sampling that gives different answers, and the same ones again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


def check_sampling(options: Mapping[str, Any]) -> None:
    """Refuse options of `generate` under which all answers to a prompt are the same.

    Args:
        options (`Mapping[str, Any]`): `do_sample`, `temperature`, `top_p`, `top_k`.
    """
    if not options.get("do_sample", True):
        raise ValueError("`do_sample` must be True: without sampling all answers are the same, got False")
    temperature = options.get("temperature", 1.0)
    if temperature is not None and not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, where all answers are the same, got {temperature}")
    if options.get("top_k") == 1:
        raise ValueError("`top_k` must not be 1, where all answers are the same")
    top_p = options.get("top_p")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"`top_p` must be above 0 and at most 1, got {top_p}")


@contextmanager
def fixed_seed(seed: int | None, device: torch.device) -> Iterator[None]:
    """The global generators seeded inside of the block, and as they were behind it.

    Args:
        seed (`int`, *optional*): nothing happens without one.
        device (`torch.device`): whose generator is meant, beside that of the CPU.
    """
    if seed is None:
        yield
        return
    beside = device.type not in ("cpu", "meta")
    with torch.random.fork_rng([device] if beside else [], device_type=device.type if beside else "cuda"):
        torch.manual_seed(seed)
        yield
