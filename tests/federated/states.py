# SPDX-License-Identifier: Apache-2.0
"""Adapter states and uploads for tests of the server, without a model."""

import torch
from torch import Tensor

from eigenhub.federated.updates import uploaded_keys


LAYERS = {"q": (6, 10), "v": (9, 5)}  # d_out, d_in
RANK = 3


def a_state(seed: int = 0, rank: int = RANK, b_is_zero: bool = False, head: bool = False) -> dict[str, Tensor]:
    """Two layers in float64 under the keys of a saved adapter."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    state = {}
    for name, (d_out, d_in) in LAYERS.items():
        state[f"{name}.lora_A.weight"] = draw(rank, d_in)
        state[f"{name}.lora_B.weight"] = draw(d_out, rank) * (not b_is_zero)
    return state | ({"classifier.weight": draw(2, 4)} if head else {})


def an_upload(state: dict[str, Tensor], factors: str, seed: int, with_extras: bool = False) -> dict[str, Tensor]:
    """What a client that has moved its tensors a little would send."""
    generator = torch.Generator().manual_seed(1000 + seed)
    keys = uploaded_keys(state, factors, with_extras)
    return {k: state[k] + torch.randn(state[k].shape, generator=generator, dtype=torch.float64) for k in keys}


def product(state: dict[str, Tensor], name: str) -> Tensor:
    """B A of a layer."""
    return state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"]
