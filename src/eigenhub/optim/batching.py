# SPDX-License-Identifier: Apache-2.0
"""Matrices that are computed together: equal width in one transform, equal shape in one stack."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from eigenhub.optim.layout import MatrixLayout
from eigenhub.optim.sharding import Sharding


@dataclass
class Item:
    """One parameter in a step.

    Args:
        parameter (`Tensor`): what is trained.
        state (`dict`): its state.
        layout (`MatrixLayout`): how it is seen as matrices.
        rows (`Tensor` of shape `(k, rows, width)`): this process' part of what is transformed.
        fresh (`bool`, *optional*, defaults to `False`): whether this is its first step.
    """

    parameter: Tensor
    state: dict[str, Any]
    layout: MatrixLayout
    rows: Tensor
    fresh: bool = False


class Run:
    """Consecutive parameters whose matrices are equal on this process, as one stack.

    Args:
        items (`list[Item]`): the parameters.
        start (`int`): position of the first matrix within the batch.
    """

    def __init__(self, items: list[Item], start: int) -> None:
        self.items = items
        self.counts = [item.rows.shape[0] for item in items]
        self.span = slice(start, start + sum(self.counts))

    @property
    def matrices(self) -> list[Tensor]:
        """Every matrix `(rows, width)` that is transformed."""
        return [matrix for item in self.items for matrix in item.rows.unbind(0)]

    @property
    def rows(self) -> Tensor:
        """What is transformed, `(count, rows, width)`."""
        return joined([item.rows for item in self.items])

    def read(self, key: str, dtype: torch.dtype) -> Tensor:
        """State `(count, rows, columns)`: the state itself where that is possible, otherwise a copy."""
        return joined([item.layout.view(item.state[key]).to(dtype) for item in self.items])

    def write(self, key: str, values: Tensor) -> None:
        """Store new values of what [`~Run.read`] gave."""
        views = [item.layout.view(item.state[key]) for item in self.items]
        if len(views) > 1 or self.items[0].layout.sharding is not None:
            torch._foreach_copy_(views, list(values.split(self.counts)))
        elif views[0].data_ptr() != values.data_ptr():
            self.items[0].state[key] = self.items[0].layout.oriented(values).to(views[0].dtype)  # saves the copy

    def add_(self, update: Tensor, start: int, alpha: float) -> None:
        """Add `alpha * update (count, m, width)` to the rows of the parameters from `start` on."""
        for item, part in zip(self.items, update.split(self.counts), strict=True):
            item.layout.add_(item.parameter, part, start, alpha)


class Batch:
    """Parameters of one group whose matrices have equal width and share their collectives.

    Args:
        items (`list[Item]`): the parameters, in an order that is the same on every process.
        stacked (`bool`): whether equal matrices are computed as one stack; otherwise parameter by parameter.
    """

    def __init__(self, items: list[Item], stacked: bool) -> None:
        self.items = items
        self.stacked = stacked

    def without(self, flags: Sequence[float]) -> "Batch":
        """The same batch without the flagged parameters."""
        return Batch([item for item, flag in zip(self.items, flags, strict=True) if not flag], self.stacked)

    @cached_property
    def runs(self) -> list[Run]:
        """The parameters by equal number of rows on this process, or one by one.

        Of a stack that is split over many processes there may be no matrix here.
        """
        runs = []
        start = 0
        present = [item for item in self.items if item.rows.shape[0]]
        positions = iter(range(len(present)))
        for _, items in groupby(present, key=lambda item: item.rows.shape[1] if self.stacked else next(positions)):
            runs.append(Run(list(items), start))
            start = runs[-1].span.stop
        return runs

    @property
    def width(self) -> int:
        """Length of the rows."""
        return self.items[0].layout.width

    @property
    def sharding(self) -> Sharding | None:
        """How all of these matrices are split, `None` if they lie whole on this process."""
        return self.items[0].layout.sharding

    @property
    def moves(self) -> bool:
        """Whether an update has to be redistributed before it fits the parameter, which takes whole matrices."""
        return any(item.layout.sharding is not None and item.layout.sharding.moves for item in self.items)

    def read(self, key: str) -> Tensor:
        """State of one number or vector per matrix, `(k, ...)` over the batch."""
        return joined([item.layout.matrix_view(item.state[key]) for item in self.items])

    def write(self, key: str, values: Tensor) -> None:
        """Store state of one number or vector per matrix."""
        views = [item.layout.matrix_view(item.state[key]) for item in self.items]
        torch._foreach_copy_(views, list(values.split([item.rows.shape[0] for item in self.items])))

    def sum_(self, partial: Tensor, over: Sequence[str] = ("rows",)) -> Tensor:
        """Complete sums over rows, in place, if the rows are spread over processes."""
        return self.sharding.sum_(partial, over) if self.sharding else partial

    def agree_(self, decision: Tensor) -> Tensor:
        """Make a decision the same on all processes, in place."""
        return self.sharding.agree_(decision) if self.sharding else decision


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The parts one after the other; a single part stays itself."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def make_batches(
    items: Sequence[Item], key: Callable[[Item], Any], cells: int, foreach: bool | None = None
) -> Iterator[Batch]:
    """Batches of at most `cells` entries per process (a larger parameter is a batch of its own).

    Args:
        items (`Sequence[Item]`): parameters of one group.
        key (`Callable`): what has to be equal within a batch, beside the width and the split.
        cells (`int`): number of entries.
        foreach (`bool`, *optional*): `True` stacks equal matrices, `False` puts every parameter into a batch of its own;
            by default they are stacked on accelerators, where launches cost more than copies.
    """
    groups: dict[Any, list[Item]] = {}
    for position, item in enumerate(items):
        groups.setdefault((item.layout.key, key(item), position if foreach is False else None), []).append(item)
    for group in groups.values():
        stacked = group[0].layout.device.type != "cpu" if foreach is None else foreach
        # By size over all processes, so that every process forms the same batches even if the split is uneven.
        group.sort(key=lambda item: item.layout.rows)
        pending: list[Item] = []
        for item in group:
            if pending and sum(i.layout.cells for i in pending) + item.layout.cells > cells:
                yield Batch(pending, stacked)
                pending = []
            pending.append(item)
        yield Batch(pending, stacked)
