# SPDX-License-Identifier: Apache-2.0
"""Tiny StyleGAN2 pairs whose every number matters."""

from typing import Any

import torch

from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator
from tests.support.models import build


TINY: dict[str, Any] = {
    "z_dim": 6,
    "w_dim": 8,
    "img_resolution": 16,
    "channel_base": 128,
    "channel_max": 12,
    "mapping_layers": 2,
}


@torch.no_grad()
def shaken(model: torch.nn.Module, seed: int = 0) -> Any:
    """Zeros and ones of a fresh model made random, the running mean included."""
    draws = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.rpartition(".")[2] in ("bias", "noise_strength", "w_avg"):
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=draws))
    return model


def generator(seed: int = 0, **overrides: Any) -> StyleGAN2Generator:
    return shaken(build(StyleGAN2Generator, StyleGAN2Config(**(TINY | overrides)), seed), seed)


def discriminator(seed: int = 0, **overrides: Any) -> StyleGAN2Discriminator:
    return shaken(build(StyleGAN2Discriminator, StyleGAN2Config(**(TINY | overrides)), seed), seed)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
