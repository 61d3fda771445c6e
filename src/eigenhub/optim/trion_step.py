# SPDX-License-Identifier: Apache-2.0
"""One step of Trion on one batch of matrices of equal width and rank."""

import math

import torch
from torch import Tensor

from eigenhub.linalg.newton_schulz import newton_schulz, newton_schulz_factor
from eigenhub.optim.batching import Item, Run
from eigenhub.optim.subspace_step import SubspaceStep


SCALES = ("spectral", "none", "match_rms_adamw", "dion")


def shape_scale(scale: str, rows: int, columns: int) -> float:
    """Factor of the step size for a weight that maps `columns` inputs to `rows` outputs.

    Args:
        scale (`str`): `"spectral"` sqrt(max(1, R/C)); `"none"` 1; `"match_rms_adamw"` 0.2 sqrt(max(R, C)); `"dion"`
            sqrt(R/C).
        rows (`int`): R, outputs.
        columns (`int`): C, inputs.
    """
    if scale == "spectral":
        return math.sqrt(max(1.0, rows / columns))
    if scale == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    if scale == "dion":
        return math.sqrt(rows / columns)
    if scale == "none":
        return 1.0
    raise ValueError(f"`scale` must be one of {', '.join(SCALES)}, got {scale!r}")


class TrionStep(SubspaceStep):
    """One step of one batch; the rows of its items are momentum plus gradient."""

    def run(self) -> None:
        """Update state and parameters."""
        if not self.batch.runs:
            return
        self.project(choose=True)
        directions = self._orthogonalised()
        if self.optimizer.collect_statistics:
            self.collect(directions, self.lr, first=self.batch.items[0].fresh)
        self.expand(self.inside, self._keep_momentum)
        self.decay()
        self.expand(directions, self._add)

    def _orthogonalised(self) -> list[Tensor]:
        steps, coefficients = self.group["ns_steps"], self.group["ns_coefficients"]
        if self.batch.sharding is None:
            dtype = getattr(torch, self.group["ns_dtype"]) if self.group["ns_dtype"] else None
            return [newton_schulz(b, steps, coefficients, dtype) for b in self.inside]
        # Rows lie on several processes: their Gram matrix is all that has to be known in common.
        gram = self.batch.sum_(torch.cat([b.mT @ b for b in self.inside]))
        factors = self.per_run(newton_schulz_factor(gram, steps, coefficients))
        return [b @ factor for b, factor in zip(self.inside, factors, strict=True)]

    def _keep_momentum(self, run: Run, piece: slice, inside: Tensor) -> None:
        for item, part in zip(run.items, inside.split(run.counts), strict=True):
            stored = item.layout.view(item.state["momentum_buffer"])[:, piece]
            rows = item.rows[:, piece]
            if stored.data_ptr() == rows.data_ptr() and stored.dtype == rows.dtype:
                stored.add_(part, alpha=self.group["momentum"] - 1)
            else:
                stored.copy_(rows.add(part, alpha=self.group["momentum"] - 1))

    def _add(self, run: Run, piece: slice, update: Tensor) -> None:
        for item, part in zip(run.items, update.split(run.counts), strict=True):
            item.layout.add_(item.parameter, part, piece.start, -self.lr * self._scale(item))

    def _scale(self, item: Item) -> float:
        rows, columns = item.layout.shape[-2:]
        if self.group["transposed"]:
            rows, columns = columns, rows
        scale = shape_scale(self.group["scale"], rows, columns)
        if self.group["rank_rms_correction"]:
            short = min(rows, columns)  # projected from its longer side, a matrix has more slots than rank
            scale /= math.sqrt(min(self.indices.shape[-1], short) / short)
        return scale
