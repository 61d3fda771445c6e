# SPDX-License-Identifier: Apache-2.0
"""How far images move per step in the space of style latents: perceptual path length, and its form along edits."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d


Images = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]
SAMPLINGS = ("full", "end")


class PathLength(NamedTuple):
    """A path length and what it is the mean of.

    Args:
        value (`float`): mean of the distances between their 1st and 99th percentile.
        distances (`Tensor` of shape `(samples,)`): distances over the squared step, float64.
        choices (`Tensor` of shape `(samples, 2)`): of [`interpretable_path_length`]: number of the layer and of its direction.
    """

    value: float
    distances: Tensor
    choices: Tensor | None = None


@torch.no_grad()
def perceptual_path_length(
    images: Images,
    start: Tensor,
    end: Tensor,
    distance: Distance,
    sampling: str = "full",
    eps: float = 1e-4,
    batch_size: int = 8,
    seed: int = 0,
) -> PathLength:
    r"""Perceptual path length in W: $\mathbb{E}\, d(G(w_t), G(w_{t + \epsilon})) / \epsilon^2$ with $w_t = w_0 + t\,(w_1 - w_0)$.

    $t$ is uniform in [0, 1], or 0; the mean leaves out what is below the 1st or above the 99th percentile.

    Args:
        images (`Callable`): images of style latents, with constant noise: `model.synthesis`.
        start (`Tensor` of shape `(samples, ...)`): $w_0$, for example `model.mapping(z)`.
        end (`Tensor` of shape `(samples, ...)`): $w_1$.
        distance (`Callable`): squared distances `(batch,)` of two batches of images: [`lpips_distance`], as published, or
            [`pixel_distance`] or [`feature_distance`] for images that LPIPS was not made for.
        sampling (`str`, *optional*, defaults to `"full"`): `"full"` or `"end"`.
        eps (`float`, *optional*, defaults to 1e-4): $\epsilon$.
        batch_size (`int`, *optional*, defaults to 8): samples at a time.
        seed (`int`, *optional*, defaults to 0): of the places $t$.

    Returns:
        [`PathLength`].

    Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (arXiv 1812.04948).
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"`sampling` must be one of {', '.join(SAMPLINGS)}; got {sampling!r}")
    if start.shape != end.shape:
        raise ValueError(f"`end` must have the shape of `start`, {tuple(start.shape)}, got {tuple(end.shape)}")
    _check(start, "start", eps, batch_size)
    draws = torch.Generator().manual_seed(seed)
    t = torch.rand(len(start), generator=draws) if sampling == "full" else torch.zeros(len(start))
    t = t.to(start).view(-1, *[1] * (start.ndim - 1))
    return _path_length(images, start.lerp(end, t), start.lerp(end, t + eps), distance, eps, batch_size)


@torch.no_grad()
def interpretable_path_length(
    images: Images,
    ws: Tensor,
    directions: Sequence[tuple[int, Tensor]],
    distance: Distance,
    eps: float = 1.0,
    batch_size: int = 8,
    seed: int = 0,
) -> PathLength:
    r"""Path length along edits: $\mathbb{E}\, d(G(w), G(w + \epsilon v_{lk})) / \epsilon^2$ over random layers $l$ and directions $k$.

    The lower, the smoother the edits; also the lower, the less they do: compare at equal visible change, or at equal length
    of the styles' displacement, by the scale of the directions.

    Args:
        images (`Callable`): images of style latents, with constant noise: `model.synthesis`.
        ws (`Tensor` of shape `(samples, num_ws, w_dim)`): style latents.
        directions (`Sequence[tuple[int, Tensor]]`): by layer its entry of `ws` and its directions `(w_dim, count)`, as columns.
        distance (`Callable`): see [`perceptual_path_length`].
        eps (`float`, *optional*, defaults to 1.0): $\epsilon$, a step of the size of an edit.
        batch_size (`int`, *optional*, defaults to 8): samples at a time.
        seed (`int`, *optional*, defaults to 0): of the choices.

    Returns:
        [`PathLength`].

    Song et al., "Householder Projector for Unsupervised Latent Semantics Discovery" (arXiv 2307.08012). Departures: each sample
    draws its own layer and direction and moves that layer's entry alone; the official script draws once per batch and moves
    all layers.
    """
    _check(ws, "ws", eps, batch_size)
    if ws.ndim != 3:
        raise ValueError(f"`ws` must have shape (samples, num_ws, w_dim), got {tuple(ws.shape)}")
    if not directions:
        raise ValueError("`directions` must hold at least one layer, got none")
    for index, vectors in directions:
        if not 0 <= index < ws.shape[1]:
            raise ValueError(f"`directions` must name entries of `ws` from 0 to {ws.shape[1] - 1}, got {index}")
        if vectors.ndim != 2 or len(vectors) != ws.shape[2] or not vectors.shape[1]:
            raise ValueError(f"`directions` must have shape ({ws.shape[2]}, count), got {tuple(vectors.shape)}")
    draws = torch.Generator().manual_seed(seed)
    counts = torch.tensor([vectors.shape[1] for _, vectors in directions])
    layers = torch.randint(len(directions), (len(ws),), generator=draws)
    numbers = (torch.rand(len(ws), generator=draws, dtype=torch.float64) * counts[layers]).long()
    moved = ws.clone()
    for row, (layer, k) in enumerate(zip(layers.tolist(), numbers.tolist(), strict=True)):
        index, vectors = directions[layer]
        moved[row, index] += eps * vectors[:, k].to(ws)
    found = _path_length(images, ws, moved, distance, eps, batch_size)
    return found._replace(choices=torch.stack([layers, numbers], 1))


def pixel_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of pixels, for small and synthetic images.

    Args:
        x (`Tensor` of shape `(batch, ...)`): images.
        y (`Tensor` of shape `(batch, ...)`): images.
    """
    return (x - y).square().flatten(1).mean(1)


def feature_distance(features: Images) -> Distance:
    """Mean squared difference of features, as a distance.

    Args:
        features (`Callable`): features `(batch, ...)` of images, such as [`FactorRegressor.features`].
    """
    return lambda x, y: pixel_distance(features(x), features(y))


def lpips_distance(device: torch.device | str = "cpu", largest: int | None = 256) -> Distance:
    """LPIPS with VGG, as a distance of images in [-1, 1] with three channels; by torch-fidelity, which downloads its weights.

    Args:
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`): where it runs.
        largest (`int`, *optional*, defaults to 256): larger images are averaged down to this side, as published.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924).
    """
    try:
        library: Any = import_module("torch_fidelity.sample_similarity_lpips")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch_fidelity":
            raise  # the library is there but broken: its own message says more
        raise ImportError("LPIPS needs torch_fidelity: install it by `pip install 'eigenhub[fid]'`") from error
    network = library.SampleSimilarityLPIPS("lpips-vgg16").to(device)

    def prepared(images: Tensor) -> Tensor:
        if largest is not None and images.shape[-1] > largest:
            images = adaptive_avg_pool2d(images, largest)
        return (images.to(device).float() + 1) * 127.5

    return lambda x, y: network(prepared(x), prepared(y))


def trimmed_mean(values: Tensor, low: float = 0.01, high: float = 0.99) -> float:
    """Mean of the values between two quantiles, both included; the lower one rounded down to a value, the upper one up.

    Args:
        values (`Tensor` of shape `(count,)`): at least one.
        low (`float`, *optional*, defaults to 0.01): lower quantile.
        high (`float`, *optional*, defaults to 0.99): upper quantile.
    """
    x = values.double()
    bottom = torch.quantile(x, low, interpolation="lower")
    top = torch.quantile(x, high, interpolation="higher")
    return x[(x >= bottom) & (x <= top)].mean().item()


def _path_length(
    images: Images, first: Tensor, second: Tensor, distance: Distance, eps: float, batch_size: int
) -> PathLength:
    found = [
        distance(images(a), images(b)).double().flatten()
        for a, b in zip(first.split(batch_size), second.split(batch_size), strict=True)
    ]
    distances = torch.cat(found) / eps**2
    if distances.shape != (len(first),):
        raise ValueError(f"`distance` must give one number per image, got {len(distances)} for {len(first)}")
    return PathLength(trimmed_mean(distances), distances)


def _check(ws: Tensor, name: str, eps: float, batch_size: int) -> None:
    if not len(ws):
        raise ValueError(f"`{name}` must hold at least one sample, got none")
    if not eps > 0:
        raise ValueError(f"`eps` must be positive, got {eps}")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
