# SPDX-License-Identifier: Apache-2.0
"""The factors of a drawn shape, read from its pixels in closed form: what an edit of such an image has changed."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from eigenhub.embedded import shapes
from eigenhub.embedded.shapes import FACTORS, render_shapes


#: Coverage below this is taken for noise, and above one minus this for full.
_TOLERANCE = 0.08
_FOUR_FOLD_KNOTS = 17


def measure_shapes(images: Tensor) -> Tensor:
    r"""
    Factors of images of one shape each, the inverse of [`~eigenhub.embedded.shapes.render_shapes`].

    The colour of a shape has a constant saturation and the ground has none, so that $\frac43 \lvert \sum_k x_k e^{2\pi i k/3} \rvert$
    over the three channels $x_k$ is the share of a pixel that the shape covers. Its sum is the area, its centre of mass the place,
    its four-fold moment $\sum \mathrm{Re}\,(u + i v)^4$ tells a square from a disc, and the mean phase is the hue. Nothing is learned.

    Args:
        images (`Tensor` of shape `(count, 3, size, size)`): in [-1, 1]; also such that nobody drew, as those of a generator.

    Returns:
        `Tensor` of shape `(count, 6)` in the order of [`FACTORS`]. Values stay in [0, 1] for `hue` and `shape` and may leave
        it for the others; an image without any colour gives a factor of `nan` for everything but `size` and `background`.

    Example:

    ```python
    >>> from eigenhub.embedded.shape_factors import measure_shapes
    >>> from eigenhub.embedded.shapes import load_shapes

    >>> data = load_shapes(8)
    >>> bool((measure_shapes(data["image"]) - data["factors"]).abs()[:, :2].max() < 0.02)
    True
    ```
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"`images` must have shape (count, 3, size, size), got {tuple(images.shape)}")
    coverage, colour, background = _parts(images)
    area = coverage.sum((1, 2))
    x, y, four_fold = _moments(coverage, area)
    hue = (torch.angle(colour) / (2 * math.pi)) % 1
    top = shapes.HUES[1]
    hue = torch.where(hue > (1 + top) / 2, torch.zeros_like(hue), hue)  # the part of the circle that is not used
    size = (area / math.pi).sqrt() / images.shape[-1]
    found = {
        "x": _share(shapes.PLACES, x),
        "y": _share(shapes.PLACES, y),
        "size": _share(shapes.RADII, size),
        "hue": _share(shapes.HUES, hue).clamp(0, 1),
        "background": _share(shapes.GREYS, background),
        "shape": _shape_of(four_fold, images.shape[-1]),
    }
    known = area > 0
    for name in ("x", "y", "hue", "shape"):
        found[name] = torch.where(known, found[name], math.nan)
    return torch.stack([found[name] for name in FACTORS], 1)


def _parts(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage `[count, size, size]`, the complex sum of its colour and the grey of the ground, `[count]` each."""
    colours = (images + 1) / 2
    thirds = 2 * math.pi * torch.arange(3, dtype=images.dtype, device=images.device) / 3
    chroma = torch.einsum("nkhw,k->nhw", torch.complex(colours, torch.zeros_like(colours)), torch.exp(1j * thirds))
    coverage = ((chroma.abs() * (4 / 3) - _TOLERANCE) / (1 - 2 * _TOLERANCE)).clamp(0, 1)
    ground = 1 - coverage
    grey = colours.mean(1) - 0.5 * coverage  # the mean of a shape's channels is one half at any hue
    return coverage, chroma.sum((1, 2)), grey.sum((1, 2)) / ground.sum((1, 2)).clamp(min=1)


def _moments(coverage: Tensor, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre of mass in sides of the image, and the four-fold moment in squares of the second."""
    size = coverage.shape[-1]
    centres = (torch.arange(size, dtype=coverage.dtype, device=coverage.device) + 0.5) / size
    weights = coverage / area.clamp(min=1e-12)[:, None, None]
    x, y = (weights.sum(1) * centres).sum(1), (weights.sum(2) * centres).sum(1)
    u, v = (centres - x[:, None])[:, None, :], (centres - y[:, None])[:, :, None]
    second = (weights * (u.square() + v.square())).sum((1, 2))
    fourth = (weights * (u**4 - 6 * (u * v).square() + v**4)).sum((1, 2))
    return x, y, fourth / second.square().clamp(min=1e-12)


def _shape_of(four_fold: Tensor, size: int) -> Tensor:
    """The factor `shape` whose drawings have a four-fold moment, between the knots of a table."""
    knots = _four_fold_knots(size).to(four_fold)
    place = torch.searchsorted(-knots, -four_fold.contiguous()).clamp(1, _FOUR_FOLD_KNOTS - 1)
    left, right = knots[place - 1], knots[place]
    share = ((left - four_fold) / (left - right).clamp(min=1e-6)).clamp(0, 1)
    return (place - 1 + share) / (_FOUR_FOLD_KNOTS - 1)


@lru_cache
def _four_fold_knots(size: int) -> Tensor:
    """Four-fold moments of drawings of growing `shape`, descending; mean over places and sizes against the grid of pixels."""
    places = torch.tensor([[x, y, r] for x in (0.31, 0.5, 0.73) for y in (0.27, 0.5, 0.69) for r in (0.4, 0.7, 1.0)])
    rows = []
    for shape in torch.linspace(0, 1, _FOUR_FOLD_KNOTS).tolist():
        factors = torch.cat([places, torch.tensor([[0.0, 0.5, shape]]).expand(len(places), -1)], 1)
        coverage, _, _ = _parts(render_shapes(factors, size))
        rows.append(_moments(coverage, coverage.sum((1, 2)))[2].mean())
    return torch.stack(rows).cummin(0).values


def _share(ends: tuple[float, float], value: Tensor) -> Tensor:
    return (value - ends[0]) / (ends[1] - ends[0])
