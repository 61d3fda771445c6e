# SPDX-License-Identifier: Apache-2.0
"""What a generator has found of the planted directions."""

from typing import Any

import torch
from planted import LAYERS, RANK, TEST, PlantedWorld, images_of
from torch import Tensor

from eigenhub.linalg import subspace_angles, truncated_svd
from eigenhub.models.stylegan2 import StyleGAN2Generator
from eigenhub.models.stylegan2.projectors import affine_of


TEST_IMAGES = 1024


def measured(model: StyleGAN2Generator, world: PlantedWorld) -> dict[str, Any]:
    """Error on new images, and by layer what the affine reads beside the planted factors.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        world ([`PlantedWorld`]): what it was trained on.

    Returns:
        `dict`: `mse`; `outside`, by layer the share of the squared affine outside of the planted span; `outside_best`, that of
        its best approximation of rank 5; `cosines`, of the principal angles between the span of the 5 leading right singular
        vectors and the planted one; `rank`, the number of singular values that are not rounding errors.
    """
    planted = world.planted
    weights = {name: affine_of(model, name).effective_weight().detach() for name in LAYERS}
    return {
        "mse": test_error(model, world),
        "outside": {name: outside(weight, planted) for name, weight in weights.items()},
        "outside_best": {name: outside(best_of_rank(weight), planted) for name, weight in weights.items()},
        "cosines": {name: principal_cosines(weight, planted) for name, weight in weights.items()},
        "rank": {name: int(torch.linalg.matrix_rank(weight.double(), rtol=1e-5)) for name, weight in weights.items()},
    }


@torch.no_grad()
def test_error(model: StyleGAN2Generator, world: PlantedWorld, count: int = TEST_IMAGES) -> float:
    """Mean squared error on images of the world that no training has seen.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        world ([`PlantedWorld`]): the world.
        count (`int`, *optional*, defaults to 1024): number of images.
    """
    data = world.draw(count, TEST)
    errors = [
        (images_of(model, latents) - images).square().mean((1, 2, 3))
        for latents, images in zip(data.latents.split(128), data.images.split(128), strict=True)
    ]
    return torch.cat(errors).mean().item()


def outside(weight: Tensor, planted: Tensor) -> float:
    r"""$\lVert A (I - M M^\top) \rVert^2 / \lVert A \rVert^2$, the share of an affine that reads noise.

    Args:
        weight (`Tensor` of shape `(channels, 32)`): $A$.
        planted (`Tensor` of shape `(32, 5)`): $M$, orthonormal columns.
    """
    weight = weight.double()
    rest = weight - (weight @ planted.double()) @ planted.double().mT
    return (rest.square().sum() / weight.square().sum()).item()


def principal_cosines(weight: Tensor, planted: Tensor) -> list[float]:
    """Cosines of the angles between what an affine reads most and the planted directions, largest first.

    Args:
        weight (`Tensor` of shape `(channels, 32)`): affine.
        planted (`Tensor` of shape `(32, 5)`): orthonormal columns.
    """
    _, _, vh = truncated_svd(weight.double(), RANK)
    return subspace_angles(vh.mT, planted.double()).cos().flip(0).tolist()


def best_of_rank(weight: Tensor) -> Tensor:
    """The nearest matrix of rank 5.

    Args:
        weight (`Tensor` of shape `(channels, 32)`): affine.
    """
    u, s, vh = truncated_svd(weight.double(), RANK)
    return (u * s) @ vh
