# SPDX-License-Identifier: Apache-2.0
"""What gradients of the small race look like: energy in few columns of several bases, index sets over time, AuON's brake."""

from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from eigenhub.linalg.dct import column_scores, top_columns
from eigenhub.optim import brake
from eigenhub.optim.basis import BASES, basis_matrix
from support.race import race


MOMENTUM = 0.95


def tall(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


def energy_by_basis(matrix: Tensor, share: float) -> dict[str, float]:
    """Share of the squared norm that the best `share` of the columns hold: of singular vectors, and of each fixed basis."""
    rows = tall(matrix).float()
    n = rows.shape[1]
    rank = max(1, round(share * n))
    squares = torch.linalg.svdvals(rows).square()
    found = {"svd": (squares[:rank].sum() / squares.sum()).item()}
    for basis in BASES:
        spectrum = rows @ basis_matrix(basis, n, torch.float32)
        chosen = top_columns(column_scores(spectrum, 1).unsqueeze(0), rank)[0]
        found[basis] = (spectrum[:, chosen].square().sum() / spectrum.square().sum()).item()
    return found


def brake_above_one(direction: Tensor) -> float:
    """How far AuON's scalar is from leaving the step as it is."""
    x = direction.double()
    return brake(x / x.norm()).item() - 1


def gradients(seed: int, steps: int) -> dict[str, Any]:
    """Captured energy at the first and after `steps` steps of AdamW, and the largest brake on the way."""
    buffers: dict[str, Tensor] = {}
    result: dict[str, Any] = {"energy": {}, "largest_brake": 0.0}

    def watch(step: int, matrices: dict[str, Tensor], optimizers: list[Optimizer]) -> None:
        for name, matrix in matrices.items():
            buffers[name] = MOMENTUM * buffers.get(name, 0.0) + matrix.grad
            direction = (1 - MOMENTUM) * (matrix.grad + MOMENTUM * buffers[name])
            result["largest_brake"] = max(result["largest_brake"], brake_above_one(direction))
        if step == 1:
            result["energy"]["gradient, first step"] = average({n: m.grad for n, m in matrices.items()})
        if step == steps + 1:
            result["energy"][f"gradient, step {steps}"] = average({n: m.grad for n, m in matrices.items()})
            result["energy"][f"momentum {MOMENTUM}, step {steps}"] = average(buffers)

    race("adamw", {}, 1e-3, 1e-3, seed, steps + 1, watch)
    return result


def average(matrices: dict[str, Tensor], shares: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2)) -> dict[str, dict]:
    """Captured energy, mean over the matrices, by share of the columns and basis."""
    table = {}
    for share in shares:
        rows = [energy_by_basis(matrix, share) for matrix in matrices.values()]
        table[f"{share:g}"] = {name: mean(row[name] for row in rows) for name in rows[0]}
    return table


def index_overlap(seed: int, steps: int, gap: int, error_feedback: str | None) -> dict[str, float]:
    """Share of the chosen columns that were chosen at the choice before, mean over matrices and choices."""
    before: dict[str, set[int]] = {}
    shares: list[float] = []

    def watch(step: int, matrices: dict[str, Tensor], optimizers: list[Optimizer]) -> None:
        done = step - 1
        if done == 0 or (done > 1 and done % gap):
            return
        for name, matrix in matrices.items():
            now = set(optimizers[0].state[matrix]["indices"].tolist())
            if name in before:
                shares.append(len(now & before[name]) / len(now))
            before[name] = now

    options = {"rank": 0.25, "update_proj_gap": gap, "error_feedback": error_feedback}
    race("dct", options, 2e-3, 1e-3, seed, steps + 1, watch)
    return {"overlap": mean(shares)}
