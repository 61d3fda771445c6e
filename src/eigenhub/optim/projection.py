# SPDX-License-Identifier: Apache-2.0
"""From rows to a chosen subspace and back, under a budget of working memory.

Matrices come in runs: lists of equal matrices `(rows, n)`, which are stacked as soon as they are transformed.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from eigenhub.optim.basis import Basis
from eigenhub.optim.blocks import block_budget, row_pieces


def choose_and_project(
    basis: Basis,
    runs: Sequence[Sequence[Tensor]],
    norm: int,
    settle: Callable[[Tensor], Tensor],
    budget: int,
) -> tuple[Tensor, list[Tensor]]:
    """The best basis vectors of every matrix, and its coefficients on them.

    All matrices go through one transform. Only a single run beyond the budget (a huge matrix) is transformed in blocks of
    rows, once for the scores and once more for the coefficients, instead of being stored.

    Args:
        basis (`Basis`): the basis.
        runs (`Sequence[Sequence[Tensor]]`): equal matrices `(rows, n)`, run by run.
        norm (`int`): exponent of the scores.
        settle (`Callable`): from the scores `(k, n)` of the rows on this process to the indices `(k, r)`.
        budget (`int`): bytes.

    Returns:
        `indices (k, r)` over all runs, and for every run its coefficients `(count, rows, r)`.
    """
    if len(runs) == 1 and _row_bytes(basis, runs[0]) * runs[0][0].shape[0] > budget:
        indices = settle(_scores_by_pieces(basis, runs[0], norm, budget))
        return indices, [project_run(basis, runs[0], indices, budget)]
    spectrum, scores = basis.analyse_and_score([matrix for run in runs for matrix in run], norm)
    lengths = [len(run) * run[0].shape[0] for run in runs]
    stacks = [
        part.unflatten(0, (len(run), run[0].shape[0])) for part, run in zip(spectrum.split(lengths), runs, strict=True)
    ]
    indices = settle(scores)
    chosen = indices.split([len(run) for run in runs])
    return indices, [basis.take(stack, own) for stack, own in zip(stacks, chosen, strict=True)]


def project_run(basis: Basis, run: Sequence[Tensor], indices: Tensor, budget: int) -> Tensor:
    """Coefficients `(count, rows, r)` of equal matrices on given basis vectors `(count, r)`."""
    pieces = row_pieces(run[0].shape[0], _row_bytes(basis, run), budget)
    parts = [basis.project([matrix[piece] for matrix in run], indices) for piece in pieces]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def expand_run(basis: Basis, coefficients: Tensor, indices: Tensor, budget: int) -> Iterator[tuple[slice, Tensor]]:
    r"""Rows of $g B_I^\top$, piece by piece: `(slice, (count, m, n))`."""
    count, rows, _ = coefficients.shape
    row_bytes = count * basis.n * basis.dtype.itemsize
    if basis.blockwise:  # so that the caller finds the rows in cache
        budget = block_budget(budget, basis.device)
    for piece in row_pieces(rows, row_bytes, budget):
        yield piece, basis.synthesise(coefficients[:, piece], indices)


def _row_bytes(basis: Basis, run: Sequence[Tensor]) -> int:
    return len(run) * basis.n * basis.dtype.itemsize


def _scores_by_pieces(basis: Basis, run: Sequence[Tensor], norm: int, budget: int) -> Tensor:
    scores = torch.zeros(len(run), basis.n, dtype=basis.dtype, device=basis.device)
    for piece in row_pieces(run[0].shape[0], _row_bytes(basis, run), budget):
        scores += basis.analyse_and_score([matrix[piece] for matrix in run], norm)[1]
    return scores
