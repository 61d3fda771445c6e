# SPDX-License-Identifier: Apache-2.0
"""How near projectors start to the weights that they replace: as released, and from the nearest of their kind."""

from statistics import mean

import torch
from torch import Tensor

from eigenhub.linalg.householder import householder_product
from eigenhub.nn import LowRankOrthogonal
from support.report import row


RANK, SEEDS = 10, (0, 1, 2, 3, 4)
SHAPES = ((64, 64), (512, 512), (256, 512))


def released_start(weight: Tensor, rank: int) -> Tensor:
    """The start of the official code: what LAPACK's factorisation packs is taken for the reflection vectors themselves.

    The diagonal then holds an entry of R where a vector has its one, the signs of R are lost, and the right factor is not transposed.

    Args:
        weight (`Tensor` of shape `(d_out, d_in)`): pretrained matrix.
        rank (`int`): of the projector.
    """
    u, _, vh = torch.linalg.svd(weight)
    left, right = (householder_product(torch.geqrf(frame)[0]) for frame in (u, vh.mT))
    return left[:, :rank] @ right[:rank]


def nearest_start(weight: Tensor, rank: int) -> Tensor:
    """The start of this package.

    Args:
        weight (`Tensor` of shape `(d_out, d_in)`): pretrained matrix.
        rank (`int`): of the projector.
    """
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    layer.weight.data.copy_(weight)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", LowRankOrthogonal(*weight.shape, rank=rank))
    return layer.weight.detach()


def cosine(first: Tensor, second: Tensor) -> float:
    return ((first * second).sum() / (first.norm() * second.norm())).item()


def start_rows() -> list[dict]:
    """Cosines between Gaussian weights and both starts, mean over seeds with the smallest and the largest."""
    rows = []
    for shape in SHAPES:
        weights = [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in SEEDS
        ]
        for name, start in (("official start", released_start), ("nearest start", nearest_start)):
            values = [cosine(start(weight, RANK), weight) for weight in weights]
            setting = f"cosine to a Gaussian weight, {shape[0]} x {shape[1]}, rank {RANK}"
            rows.append(row(name, setting, mean(values), kind="quality", range=[min(values), max(values)]))
    return rows
