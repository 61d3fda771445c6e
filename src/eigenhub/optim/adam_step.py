# SPDX-License-Identifier: Apache-2.0
"""One step of DCT-AdamW on one batch of matrices of equal width, rank and step count."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eigenhub.optim.batching import Run, joined
from eigenhub.optim.blocks import contiguous_rows, row_norms
from eigenhub.optim.error_feedback import read_error_feedback, with_error_feedback, write_error_feedback
from eigenhub.optim.sharding import scalar_dtype
from eigenhub.optim.subspace import (
    adam_direction,
    compiled,
    limit_growth,
    moved_adam_direction,
    residual_scale,
    surviving_slots,
)
from eigenhub.optim.subspace_step import SubspaceStep


class AdamStep(SubspaceStep):
    """See [`DCTAdamW`] for the algorithm; the order of its lines is kept."""

    def run(self) -> None:
        """Update state and parameters."""
        if self.group["error_feedback"] is not None:
            self._add_error_feedback()
        if not self.batch.runs:
            return
        step = int(self.batch.items[0].state["step"])
        choose = step == 1 or step % self.group["update_proj_gap"] == 0
        self.project(choose)
        rotate = choose and step > 1 and self.group["rotate"]
        scale = self._prepare_corrections(step, rotate)
        directions = [self._direction(i, rotate) for i in range(len(self.batch.runs))]
        if self.group["per_slot_bias_correction"]:
            directions = [u * c for u, c in zip(directions, self.per_run(self.slot_scale), strict=True)]
        if self.group["error_feedback"] is not None:
            self.expand(self.inside, self._keep_error)
        if self.optimizer.collect_statistics:
            self.collect(directions, self.lr * scale, first=step == 1)
            self._collect_error()
        self.decay()
        if self.group["residual"] is not None:
            self._add_with_residual(directions, -self.lr * scale)
        else:
            self.expand(directions, lambda run, piece, rows: run.add_(rows, piece.start, -self.lr * scale))

    def _add_error_feedback(self) -> None:
        for item in self.batch.items:
            item.rows = with_error_feedback(item.rows, item.state, item.layout, self.dtype, self.budget)
        # One matrix that is not finite would stay in its buffer for ever; it sits this step out, on all processes.
        bad = torch.stack([_is_spoiled(item.rows) for item in self.batch.items])
        flags = self.batch.sum_(bad, over=("rows", "stack")).tolist()
        if not any(flags):
            return
        if self.group["error_on_nonfinite"]:
            raise FloatingPointError(f"{sum(map(bool, flags))} gradients with error feedback are not finite")
        skipped = [item for item, flag in zip(self.batch.items, flags, strict=True) if flag]
        torch._foreach_add_([item.state["step"] for item in skipped], -1)
        self.optimizer.note_skipped(len(skipped))
        self.batch = self.batch.without(flags)

    def _prepare_corrections(self, step: int, rotate: bool) -> float:
        """Set `root_eps` per run; returns the factor of the step size."""
        beta1, beta2 = self.group["betas"]
        if rotate:
            self.slots, self.kept = surviving_slots(self.previous, self.indices, self.batch.width)
        if not self.group["per_slot_bias_correction"]:
            root = (1 - beta2**step) ** 0.5
            self.root_eps: Sequence[Tensor] = [torch.tensor(self.group["eps"] * root)] * len(self.batch.runs)
            return root / (1 - beta1**step)
        counts = self.batch.read("slot_steps")
        wide = scalar_dtype(counts.device)
        counts = torch.where(self.kept, counts.gather(1, self.slots), 0.0) + 1 if rotate else counts + 1
        self.batch.write("slot_steps", counts)
        roots = (1 - beta2 ** counts.to(wide)).sqrt().unsqueeze(1)
        self.root_eps = self.per_run((self.group["eps"] * roots).to(self.dtype))
        self.slot_scale = (roots / (1 - beta1 ** counts.to(wide)).unsqueeze(1)).to(self.dtype)
        return 1.0

    def _direction(self, i: int, rotate: bool) -> Tensor:
        """Adam's direction of run `i`, its moments updated and stored."""
        run = self.batch.runs[i]
        first, second = run.read("exp_avg", self.dtype), run.read("exp_avg_sq", self.dtype)
        wrap = compiled if self.group["compile"] else _as_is
        if rotate:
            slots, kept = self.slots[run.span], self.kept[run.span]
            direction, first, second = wrap(moved_adam_direction)(
                self.inside[i], first, second, slots, kept, self.root_eps[i], *self.group["betas"]
            )
        else:
            direction = wrap(adam_direction)(self.inside[i], first, second, self.root_eps[i], *self.group["betas"])
        run.write("exp_avg", first)
        run.write("exp_avg_sq", second)
        return direction

    def _keep_error(self, run: Run, piece: slice, inside: Tensor) -> None:
        for item, part in zip(run.items, inside.split(run.counts), strict=True):
            write_error_feedback(item.state, item.layout, item.rows[:, piece] - part, piece.start)

    def _collect_error(self) -> None:
        if self.group["error_feedback"] is None:
            return
        squares = [
            read_error_feedback(item.state, item.layout).to(self.dtype).square().sum() for item in self.batch.items
        ]
        norms = self.batch.sum_(torch.stack(squares)).sqrt()
        for item, norm in zip(self.batch.items, norms, strict=True):
            self.optimizer.record(item.parameter, {"error_norm": norm})

    def _add_with_residual(self, directions: Sequence[Tensor], alpha: float) -> None:
        r"""Fira: the direction inside, and the row-wise scaled rest $\phi (A - a B_I^\top)$ outside of the subspace.

        As the basis is orthonormal, the norm of the rest needs no transform, and both parts return in a single one.
        """
        runs = list(zip(self.batch.runs, directions, self.inside, strict=True))
        phis = [residual_scale(u, a) for _, u, a in runs]
        squares = joined(
            [
                (phi.square() * _outside(run, a, self.budget)).sum(-1)
                for phi, (run, _, a) in zip(phis, runs, strict=True)
            ]
        )
        norm = self.batch.sum_(squares).sqrt()
        divisor, norm = limit_growth(norm, self.batch.read("residual_norm").to(norm.dtype))
        self.batch.write("residual_norm", norm)
        factors = [p / q.unsqueeze(-1) for p, q in zip(phis, self.per_run(divisor), strict=True)]
        by_run = {id(run): factor for (run, *_), factor in zip(runs, factors, strict=True)}

        def add(run: Run, piece: slice, update: Tensor) -> None:
            factor = by_run[id(run)][:, piece].unsqueeze(-1)
            parts = zip(run.items, update.split(run.counts), factor.split(run.counts), strict=True)
            for item, part, own in parts:
                part.addcmul_(contiguous_rows(item.rows[:, piece].to(self.dtype)), own)
            run.add_(update, piece.start, alpha)

        self.expand(
            [torch.addcmul(u, a, f.unsqueeze(-1), value=-1) for (_, u, a), f in zip(runs, factors, strict=True)], add
        )


def _is_spoiled(rows: Tensor) -> Tensor:
    """1.0 if an entry is NaN or infinite; the extremes carry both, and cost a fraction of a test of every entry."""
    if rows.numel() == 0:
        return rows.new_zeros((), dtype=torch.float32)
    return 1.0 - torch.stack(rows.aminmax()).isfinite().all().float()


def _as_is(function: Any) -> Any:
    return function


def _outside(run: Run, inside: Tensor, budget: int) -> Tensor:
    """Squared norm `(count, rows)` of what every row has outside of the subspace."""
    norms = joined([row_norms(item.rows, inside.dtype, budget) for item in run.items])
    return (norms.square() - inside.square().sum(-1)).clamp(min=0)
