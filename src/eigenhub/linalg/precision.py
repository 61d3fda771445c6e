# SPDX-License-Identifier: Apache-2.0
"""Matrix products that keep the full float32 mantissa, whatever the process has allowed elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def _matmul_settings() -> list[tuple[Any, str, Any]]:
    """The backend switches that may shorten float32 operands, each with its exact value."""
    cuda = torch.backends.cuda.matmul
    if not hasattr(cuda, "fp32_precision"):  # torch < 2.9 knows only the boolean
        return [(cuda, "allow_tf32", False)]
    settings: list[tuple[Any, str, Any]] = [(cuda, "fp32_precision", "ieee")]
    mkldnn = getattr(torch.backends.mkldnn, "matmul", None)
    if mkldnn is not None:
        settings.append((mkldnn, "fp32_precision", "ieee"))
    return settings


@contextmanager
def full_precision_matmul(device_type: str) -> Iterator[None]:
    """Run a block with autocast off and without TF32 or bf16 shortcuts in float32 products.

    TF32 keeps 10 bits of mantissa: a Gram matrix of 128 orthonormal columns would seem 1e-3 away from the identity.

    Args:
        device_type (`str`): device on which autocast is switched off, for example `"cuda"`.
    """
    settings = _matmul_settings()
    before = [getattr(owner, name) for owner, name, _ in settings]
    try:
        for owner, name, exact in settings:
            setattr(owner, name, exact)
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for (owner, name, _), value in zip(settings, before, strict=True):
            setattr(owner, name, value)
