# SPDX-License-Identifier: Apache-2.0
"""Editing directions by name, those of the projector and those of all its rivals, and one way to judge them."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from eigenhub.linalg import orthonormalize, random_orthogonal
from eigenhub.metrics.disentanglement import Effects, dci, effect_matrix
from eigenhub.models.stylegan2 import StyleGAN2Generator
from eigenhub.models.stylegan2.edits import edited_images


#: Mean change of the pixels, from -1 to 1, at which directions are compared. The style of one layer is normalised, so that
#: longer steps saturate.
CHANGE = 0.04


def _ganspace(model: StyleGAN2Generator, layer: str, count: int, latents: Tensor, seed: int) -> Tensor:
    """Principal components of style latents (Härkönen et al., arXiv 2004.02546): the same for every layer."""
    centred = latents.double() - latents.double().mean(0)
    _, vectors = torch.linalg.eigh(centred.mT @ centred)
    return vectors.flip(1)[:, :count].to(latents.dtype)


def _random(model: StyleGAN2Generator, layer: str, count: int, latents: Tensor, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return orthonormalize(torch.randn(latents.shape[1], count, generator=draws))


def _rotated(model: StyleGAN2Generator, layer: str, count: int, latents: Tensor, seed: int) -> Tensor:
    """Another basis of the same span: what the parameters' basis has to be better than, if it means anything."""
    draws = torch.Generator().manual_seed(seed)
    return model.directions(layer, "parameter", count=count).vectors @ random_orthogonal(count, draws)


def _jacobian(model: StyleGAN2Generator, layer: str, count: int, latents: Tensor, seed: int) -> Tensor:
    ws = latents[:48, None].expand(-1, model.config.num_ws, -1)
    return model.directions(layer, "jacobian", count=count, ws=ws, edit="style", batch_size=96).vectors


def _basis(name: str) -> Callable[..., Tensor]:
    def found(model: StyleGAN2Generator, layer: str, count: int, latents: Tensor, seed: int) -> Tensor:
        with warnings.catch_warnings():  # equal values: an arbitrary basis is what is asked for
            warnings.filterwarnings("ignore", message=".*equal singular values")
            return model.directions(layer, name, count=count).vectors

    return found


#: `parameter` and `rotated` need a projector; all others work on any generator.
DIRECTION_SETS: dict[str, Callable[..., Tensor]] = {
    "parameter": _basis("parameter"),
    "rotated": _rotated,
    "jacobian": _jacobian,
    "svd": _basis("svd"),
    "sefa": _basis("sefa"),
    "ganspace": _ganspace,
    "random": _random,
}


def direction_set(
    name: str, model: StyleGAN2Generator, layer: str, count: int, latents: Tensor, seed: int = 0
) -> Tensor:
    """Orthonormal directions of one layer.

    Args:
        name (`str`): one of [`DIRECTION_SETS`].
        model ([`StyleGAN2Generator`]): a generator.
        layer (`str`): for example `"b8.conv0"`.
        count (`int`): number of directions.
        latents (`Tensor` of shape `(many, w_dim)`): style latents, for what is found from data.
        seed (`int`, *optional*, defaults to 0): of what is random.

    Returns:
        `Tensor` of shape `(w_dim, count)`.
    """
    if name not in DIRECTION_SETS:
        raise ValueError(f"`name` must be one of {', '.join(DIRECTION_SETS)}; got {name!r}")
    return DIRECTION_SETS[name](model, layer, count, latents, seed)


def effects_of(
    model: StyleGAN2Generator,
    layer: str,
    vectors: Tensor,
    latents: Tensor,
    factors_of: Callable[[Tensor], Tensor],
    change: float = CHANGE,
    edit: str = "style",
) -> Effects:
    """What directions do to the factors at equal visible change, see [`effect_matrix`].

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        layer (`str`): whose style moves.
        vectors (`Tensor` of shape `(w_dim, count)`): directions.
        latents (`Tensor` of shape `(batch, w_dim)`): where to start.
        factors_of (`Callable`): factors of images.
        change (`float`, *optional*, defaults to 0.04): mean change of the pixels.
        edit (`str`, *optional*, defaults to `"style"`): `"style"` moves this layer alone.
    """
    ws = latents[:, None].expand(-1, model.config.num_ws, -1)

    def moved(k: int, alpha: float) -> Tensor:
        return edited_images(model, ws, layer, alpha * vectors[:, k], edit)

    return effect_matrix(moved, vectors.shape[1], factors_of, change)


def scores_of(effects: Effects) -> dict[str, Any]:
    """Scores of an effect matrix, as JSON.

    Args:
        effects ([`Effects`]): of some directions.
    """
    scores = dci(effects.matrix)
    return {
        "disentanglement": scores.disentanglement.item(),
        "completeness": scores.completeness.item(),
        "steps": effects.steps.tolist(),
        "changes": effects.changes.tolist(),
        "matrix": effects.matrix.tolist(),
    }
