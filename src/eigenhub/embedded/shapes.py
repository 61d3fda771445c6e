# SPDX-License-Identifier: Apache-2.0
"""Images of one coloured shape each, drawn from factors that are known: where, how large, which colour, how square."""

import math

import numpy as np
import torch
from torch import Tensor


#: The columns of `factors`, each uniform in [0, 1] and independent of the others.
FACTORS = ("x", "y", "size", "hue", "background", "shape")
PLACES = (0.3, 0.7)  # of the side: no shape is cut by the frame
RADII = (0.1, 0.22)  # of the side
HUES = (0.0, 2 / 3)  # of the colour circle, red to blue: not closed, so that one number tells the colour
GREYS = (0.1, 0.9)
_CHUNK = 512  # images drawn at a time


def load_shapes(count: int, size: int = 32, seed: int = 0) -> dict[str, Tensor]:
    """
    Images with the factors that they were drawn from; some 20,000 of 32 x 32 in a second.

    The first images of a longer set are those of a shorter one.

    Args:
        count (`int`): number of images.
        size (`int`, *optional*, defaults to 32): pixels of a side.
        seed (`int`, *optional*, defaults to 0): seed of the factors.

    Returns:
        `dict[str, Tensor]`: `image`, float32 of shape `(count, 3, size, size)` in [-1, 1], and `factors`, float32 of shape
        `(count, 6)` in [0, 1] in the order of [`FACTORS`].

    Example:

    ```python
    >>> from eigenhub.embedded.shapes import load_shapes

    >>> load_shapes(2, size=16)["image"].shape
    torch.Size([2, 3, 16, 16])
    ```
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}")
    draws = np.random.RandomState(seed).uniform(size=(count, len(FACTORS)))  # its stream is frozen for ever
    factors = torch.from_numpy(draws.astype(np.float32))
    return {"image": render_shapes(factors, size), "factors": factors}


def render_shapes(factors: Tensor, size: int = 32) -> Tensor:
    r"""
    Draw one shape per row of factors.

    The shape is a square with rounded corners: at `shape` 0 a disc, at 1 a square with sharp corners, always of the same area
    $\pi r^2$, so that `shape` does not change `size`. A pixel is covered by $\min(1, \max(0, 1/2 - d))$ with the signed distance
    $d$ of its centre from the outline, in pixels.

    Args:
        factors (`Tensor` of shape `(count, 6)`): in [0, 1], in the order of [`FACTORS`]; `y` points downwards.
        size (`int`, *optional*, defaults to 32): pixels of a side, at least 8.

    Returns:
        `Tensor` of shape `(count, 3, size, size)` in [-1, 1], in the precision and on the device of `factors`.
    """
    if size < 8:
        raise ValueError(f"`size` must be at least 8, got {size}")
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
        raise ValueError(
            f"`factors` must have shape (count, {len(FACTORS)}) for {', '.join(FACTORS)}; got {tuple(factors.shape)}"
        )
    if not ((factors >= 0) & (factors <= 1)).all():
        raise ValueError(f"`factors` must lie in [0, 1], got {factors.min().item():g} to {factors.max().item():g}")
    return torch.cat([_draw(part, size) for part in factors.split(_CHUNK)])


def _draw(factors: Tensor, size: int) -> Tensor:
    coverage = (0.5 - size * _distance(factors, size)).clamp(0, 1)[:, None]  # [count, 1, size, size]
    shape, behind = _colours(factors)
    return 2 * (coverage * shape + (1 - coverage) * behind) - 1


def _distance(factors: Tensor, size: int) -> Tensor:
    """Signed distance of every pixel's centre from the outline, negative inside, in sides of the image."""
    x, y = (_between(PLACES, factors[:, i])[:, None] for i in (0, 1))
    radius, round_part = _between(RADII, factors[:, 2]), 1 - factors[:, 5]
    half = radius * (math.pi / (4 - (4 - math.pi) * round_part.square())).sqrt()  # of the area pi r^2 at any rounding
    corner = (half * round_part)[:, None, None]
    centres = (torch.arange(size, dtype=factors.dtype, device=factors.device) + 0.5) / size
    across = (centres - x).abs()[:, None, :] - half[:, None, None] + corner
    down = (centres - y).abs()[:, :, None] - half[:, None, None] + corner
    outside = torch.hypot(across.clamp(min=0), down.clamp(min=0))
    return outside + torch.maximum(across, down).clamp(max=0) - corner


def _colours(factors: Tensor) -> tuple[Tensor, Tensor]:
    """Colour of the shape `[count, 3, 1, 1]` and grey of the background `[count, 1, 1, 1]`, in [0, 1]."""
    thirds = torch.arange(3, dtype=factors.dtype, device=factors.device) / 3
    hue = _between(HUES, factors[:, 3])[:, None]
    colour = 0.5 + 0.5 * torch.cos(2 * math.pi * (hue - thirds))
    return colour[:, :, None, None], _between(GREYS, factors[:, 4])[:, None, None, None]


def _between(ends: tuple[float, float], share: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * share
