# SPDX-License-Identifier: Apache-2.0
"""How much of a matrix lies in its r best directions: of its singular vectors, of fixed bases, and of many random ones."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from names import BASES
from torch import Tensor

from eigenhub.linalg import column_scores, dct, idct
from eigenhub.optim.basis import BASES as FIXED
from eigenhub.optim.basis import basis_matrix
from eigenhub.optim.layout import MatrixLayout


MAX_WIDTH = 8192
#: More random bases than the optimizers' own, which show how far chance goes; wider ones would take minutes to make.
NUM_RANDOM, RANDOM_UP_TO = 8, 1024
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True)
class Captured:
    """
    Share of the squared norm in r directions; entry r - 1 belongs to r.

    Args:
        curves (`dict[str, Tensor]`): by basis, `(width,)`.
        chance (`Tensor` of shape `(bases, width)`): the same for random orthogonal bases.
    """

    curves: dict[str, Tensor]
    chance: Tensor

    @property
    def width(self) -> int:
        return self.chance.shape[1]


def captured_energy(matrix: Tensor, side: str = "auto", norm: int = 1) -> Captured:
    r"""
    $\lVert G B_I \rVert_F^2 / \lVert G \rVert_F^2$ for every number of directions, nested as the optimizers choose them.

    Args:
        matrix (`Tensor` of shape `(rows, columns)`): G.
        side (`str`, *optional*, defaults to `"auto"`): `"right"` projects rows, `"left"` columns, `"auto"` the shorter side.
        norm (`int`, *optional*, defaults to 1): the directions of a fixed basis are chosen by their sums of |entries|, or
            with 2 of squares, which is optimal.
    """
    layout = MatrixLayout(matrix, side)
    if layout.width > MAX_WIDTH:
        raise ValueError(
            f"{layout.width} directions are too many here, the limit is {MAX_WIDTH}; choose the other side"
        )
    rows = layout.view(matrix)[0].float()  # [rows, width]
    total = rows.double().square().sum()
    if not (torch.isfinite(total) and total > 0):
        raise ValueError("the matrix is zero or not finite")
    curves = {"svd": singular_energies(rows)}
    for kind in FIXED:
        curves[kind] = chosen_energies(coefficients(rows, kind), norm)
    chance = [curves["random"]]
    for seed in range(NUM_RANDOM if layout.width <= RANDOM_UP_TO else 0):
        chance.append(chosen_energies(rows @ random_basis(layout.width, seed).to(rows.device), norm))
    return Captured({kind: curve / total for kind, curve in curves.items()}, torch.stack(chance) / total)


def singular_energies(rows: Tensor) -> Tensor:
    """Cumulated squares of the singular values, from the Gram matrix: the vectors are not needed."""
    gram = rows.double().mT @ rows.double()
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).cumsum(0)


def coefficients(rows: Tensor, kind: str) -> Tensor:
    """The rows in a fixed basis."""
    if kind in ("dct2", "dct3"):
        return dct(rows) if kind == "dct2" else idct(rows)
    return rows @ basis_matrix(kind, rows.shape[1], rows.dtype, rows.device)


def chosen_energies(spectrum: Tensor, norm: int) -> Tensor:
    """Squares cumulated from the column of the best score on; among equal scores the lowest index comes first."""
    order = column_scores(spectrum, norm).sort(descending=True, stable=True).indices
    return column_scores(spectrum.double(), 2)[order].cumsum(0)


@lru_cache(maxsize=2 * NUM_RANDOM)
def random_basis(width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(1 + seed)  # 0 is the optimizers' own
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q.float()


def rank_of(share: float, width: int) -> int:
    """The number of directions that a share of the width means."""
    return min(width, max(1, round(share * width)))


def table(captured: Captured) -> list[list[str]]:
    """Captured energy at some ranks, and the number of directions that hold 90 %, of every basis."""
    ranks = [rank_of(share, captured.width) for share in SHARES]
    return [
        [BASES[kind], *(f"{curve[r - 1].item():.3f}" for r in ranks), str(int((curve < 0.9).sum()) + 1)]
        for kind, curve in captured.curves.items()
    ]


def verdict(captured: Captured, rank: int) -> str:
    """What the cosines are worth here, in words."""
    cosines, svd = (captured.curves[kind][rank - 1].item() for kind in ("dct2", "svd"))
    low, high = captured.chance[:, rank - 1].aminmax()
    count = len(captured.chance)
    randoms = f"{count} random bases" if count > 1 else "a random basis"
    spread = f"{low:.3f} to {high:.3f}" if count > 1 else f"{low:.3f}"
    if cosines > high:
        found = f"more than {randoms} ({spread})"
    elif cosines < low:
        found = f"less than {randoms} ({spread})"
    else:
        found = f"no more than chance: {randoms} hold {spread}"
    return (
        f"With r = {rank} of {captured.width} the cosines of DCT-II hold **{cosines:.3f}** of the energy, **{found}**. "
        f"The SVD, which no other choice of r directions can beat, holds {svd:.3f}."
    )
