# SPDX-License-Identifier: Apache-2.0
"""What the projected optimizers do alike with one batch of matrices: choose a subspace, come back from it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eigenhub.linalg.dct import top_columns
from eigenhub.optim.adamw import compute_dtype_of
from eigenhub.optim.bases import get_basis
from eigenhub.optim.batching import Batch, Run
from eigenhub.optim.projection import choose_and_project, expand_run, project_run
from eigenhub.optim.sharding import local_part
from eigenhub.optim.subspace import surviving_slots


if TYPE_CHECKING:
    from eigenhub.optim.base import MatrixOptimizer


class SubspaceStep:
    """One step of one batch.

    Args:
        optimizer (`MatrixOptimizer`): takes the statistics.
        group (`dict`): options.
        batch (`Batch`): the matrices.
        lr (`float`): step size.
        budget (`int`): bytes of the largest temporary.
    """

    def __init__(
        self, optimizer: "MatrixOptimizer", group: dict[str, Any], batch: Batch, lr: float, budget: int
    ) -> None:
        self.optimizer, self.group, self.batch, self.lr = optimizer, group, batch, lr
        first = batch.items[0]
        self.dtype = compute_dtype_of(first.parameter)
        # An update that has to be redistributed travels in one piece.
        self.budget = 2**62 if batch.moves else budget
        self.basis = get_basis(group["basis"], batch.width, self.dtype, first.layout.device, group["transform"])
        self.indices: Tensor
        self.inside: list[Tensor]

    def project(self, choose: bool) -> None:
        """Set `inside`, the coefficients of every run, and `indices`; `previous` are those before."""
        self.previous = self.batch.read("indices").clone()
        runs = [run.matrices for run in self.batch.runs]
        if choose:
            norm = self.group["score_norm"]
            self.indices, self.inside = choose_and_project(self.basis, runs, norm, self._settle, self.budget)
            self.batch.write("indices", self.indices)
        else:
            self.indices = self.previous
            parts = zip(runs, self.per_run(self.indices), strict=True)
            self.inside = [project_run(self.basis, run, own, self.budget) for run, own in parts]

    def _settle(self, scores: Tensor) -> Tensor:
        return self.batch.agree_(top_columns(self.batch.sum_(scores), self.previous.shape[-1]))

    def per_run(self, values: Tensor) -> Sequence[Tensor]:
        """Values per matrix, split by run."""
        return [values[run.span] for run in self.batch.runs]

    def decay(self) -> None:
        """Decoupled weight decay."""
        if self.group["weight_decay"]:
            own = [local_part(item.parameter) for item in self.batch.items]
            torch._foreach_mul_(own, 1 - self.lr * self.group["weight_decay"])

    def expand(self, coefficients: Sequence[Tensor], use: Callable[[Run, slice, Tensor], None]) -> None:
        """Bring coefficients of every run back to full width and hand them on in pieces of rows."""
        for run, inside, own in zip(self.batch.runs, coefficients, self.per_run(self.indices), strict=True):
            for piece, rows in expand_run(self.basis, inside, own, self.budget):
                use(run, piece, rows)

    def collect(self, directions: Sequence[Tensor], scale: float, first: bool) -> None:
        """Statistics of this step: `directions` times `scale` is the update inside of the subspace.

        Reported are the captured share of the energy, the overlap with the previous set of indices and the root mean
        square of the update.
        """
        squares = [
            torch.stack([_energy(run.rows), _energy(inside), _energy(direction)])
            for run, inside, direction in zip(self.batch.runs, self.inside, directions, strict=True)
        ]
        whole, captured, update = self.batch.sum_(torch.cat(squares, dim=1))
        overlap = surviving_slots(self.previous, self.indices, self.batch.width)[1].float().mean(-1)
        start = 0
        for item in self.batch.items:
            count = item.rows.shape[0]
            own = slice(start, start + count)
            start = own.stop
            if count == 0:  # of a split stack there may be nothing here
                continue
            cells = item.layout.rows * item.layout.width * count
            row = {
                "captured_energy": captured[own].sum() / whole[own].sum().clamp(min=1e-38),  # 0 for no gradient
                "update_rms": scale * (update[own].sum() / cells).sqrt(),
            }
            self.optimizer.record(item.parameter, row if first else row | {"index_overlap": overlap[own].mean()})


def _energy(x: Tensor) -> Tensor:
    """Squared Frobenius norm of every matrix, in double precision: differences of these are reported."""
    return (
        torch.linalg.vector_norm(x, dim=(-2, -1), dtype=torch.promote_types(x.dtype, torch.float32)).double().square()
    )
