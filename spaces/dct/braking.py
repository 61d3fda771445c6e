# SPDX-License-Identifier: Apache-2.0
"""AuON's brake on one matrix, and what AuON, its hybrid and Muon make of the singular values."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eigenhub.optim import AuON, HybridAuON, brake, brake_bounds


MAX_SIDE = 512
HYBRID_STEPS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Braking:
    """
    What the brake does to one momentum matrix.

    Args:
        rho (`float`): the brake.
        lowest (`float`): smallest brake of any matrix of this size.
        highest (`float`): largest.
        values (`dict[str, Tensor]`): singular values in descending order, of the momentum of norm one and of the updates.
    """

    rho: float
    lowest: float
    highest: float
    values: dict[str, Tensor]


def apply_brake(gamma: float, rows: int, columns: int, kind: str) -> Braking:
    """
    Lets the optimizers take one step from zero with learning rate one.

    Args:
        gamma (`float`): steepness of the brake.
        rows (`int`): of the momentum matrix.
        columns (`int`): of the momentum matrix.
        kind (`str`): key of `MATRICES`.
    """
    matrix = momentum(kind, rows, columns)
    values = {"momentum": matrix, "AuON": update(AuON, matrix, gamma=gamma, adjust_lr="none")}
    for steps in HYBRID_STEPS:
        options = {"ns_steps": steps, "variant": "package", "gamma": gamma}
        values[hybrid(steps)] = update(HybridAuON, matrix, **options)
    if hasattr(torch.optim, "Muon"):
        shape_factor = max(1.0, rows / columns) ** 0.5
        values["Muon"] = update(torch.optim.Muon, matrix, nesterov=False) / shape_factor
    rho = brake(matrix.double(), gamma).item()
    return Braking(rho, *brake_bounds(rows * columns, gamma), {k: torch.linalg.svdvals(v) for k, v in values.items()})


def hybrid(steps: int) -> str:
    """Name of the hybrid with so many iterations."""
    return f"Hybrid AuON, k = {steps}"


def momentum(kind: str, rows: int, columns: int) -> Tensor:
    """A matrix of Frobenius norm one, the same for every call."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    if kind == "ill_conditioned":
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        matrix = (u * torch.logspace(0, -4, min(rows, columns), dtype=torch.float64)) @ vh
    elif kind == "spike":
        matrix = torch.zeros_like(matrix)
        matrix[rows // 2, columns // 2] = 1.0
    return (matrix / matrix.norm()).float()


def update(optimizer: type[Optimizer], matrix: Tensor, **options: object) -> Tensor:
    """What is subtracted from a weight whose momentum is this matrix, at learning rate one."""
    weight = nn.Parameter(torch.zeros_like(matrix))
    weight.grad = matrix.clone()
    optimizer([weight], lr=1.0, momentum=0.0, weight_decay=0.0, **options).step()
    return -weight.detach()
