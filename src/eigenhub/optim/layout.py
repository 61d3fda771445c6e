# SPDX-License-Identifier: Apache-2.0
"""A parameter seen as matrices whose rows are transformed, whatever its orientation, stacking and split."""

import torch
from torch import Tensor

from eigenhub.optim.sharding import Sharding, local_part


PROJECTIONS = ("auto", "right", "left")


class MatrixLayout:
    r"""One parameter `(R, C)`, or a stack `(E, R, C)`, as `k` matrices of `rows` x `width`.

    A projection from the right ($G B_I$) transforms the rows of $G$; one from the left ($B_I^\top G$) is the projection of
    $G^\top$ from the right, so here it is a transposed view and everything above knows only rows.

    Args:
        parameter (`Tensor`): with two or three dimensions; a DTensor may be split in any way.
        project (`str`, *optional*, defaults to `"auto"`): `"right"`, `"left"`, or `"auto"`: right if R >= C.
    """

    def __init__(self, parameter: Tensor, project: str = "auto") -> None:
        rows, columns = parameter.shape[-2:]
        self.shape, self.dtype, self.device = parameter.shape, parameter.dtype, parameter.device
        self.project = project
        self.flip = project == "left" or (project == "auto" and rows < columns)
        self.rows, self.width = (columns, rows) if self.flip else (rows, columns)
        self.row_axis = parameter.ndim - (1 if self.flip else 2)
        self.sharding = Sharding.of(parameter, self.row_axis)

    def fits(self, parameter: Tensor, project: str) -> bool:
        """Whether this is still the layout of `parameter`."""
        return self.shape == parameter.shape and self.project == project and self.device == parameter.device

    @property
    def key(self) -> tuple[object, ...]:
        """Matrices with equal keys may be computed together."""
        return (self.width, self.device, self.sharding.key if self.sharding else None)

    @property
    def cells(self) -> int:
        """Entries per process, the same number on every process even if the split is uneven."""
        return self.shape.numel() // (self.sharding.shares if self.sharding else 1)

    def rank(self, rank: int | float) -> int:
        """The number of basis vectors: an int is clamped to the width, a float is a fraction of it."""
        wanted = round(rank * self.width) if isinstance(rank, float) else rank
        return min(max(1, wanted), self.width)

    def view(self, tensor: Tensor) -> Tensor:
        """This process' part of a gradient or state tensor as `(k, rows, columns)`."""
        local = self.sharding.local(tensor) if self.sharding else tensor
        local = local.mT if self.flip else local
        return local if local.ndim == 3 else local.unsqueeze(0)

    def zeros(self, extent: torch.Size, columns: int, dtype: torch.dtype) -> Tensor:
        """State with `columns` per row, in the orientation of the parameter: `(R, columns)` or `(columns, C)`.

        `extent` is `(k, rows)` of this process' part, as [`~MatrixLayout.view`] of a gradient shows it.
        """
        local = torch.zeros([*self._stack(extent), extent[1], columns], dtype=dtype, device=self.device)
        local = local.mT if self.flip else local  # contiguous in the orientation that is worked on
        if self.sharding is None:
            return local
        sides = [columns, self.rows] if self.flip else [self.rows, columns]
        return self.sharding.wrap(local.contiguous(), [*self.shape[:-2], *sides], 0, self.row_axis)

    def per_row(self, extent: torch.Size, columns: int, dtype: torch.dtype) -> Tensor:
        """State with a few numbers for every row, `(rows, columns)` whatever the orientation."""
        local = torch.zeros([*self._stack(extent), extent[1], columns], dtype=dtype, device=self.device)
        if self.sharding is None:
            return local
        return self.sharding.wrap(local, [*self.shape[:-2], self.rows, columns], 0, len(self.shape) - 2)

    def per_matrix(self, extent: torch.Size, columns: int | None, dtype: torch.dtype) -> Tensor:
        """State with a few numbers (`None`: one) for every matrix, the same for all its rows."""
        tail = [] if columns is None else [columns]
        local = torch.zeros([*self._stack(extent), *tail], dtype=dtype, device=self.device)
        if self.sharding is None:
            return local
        return self.sharding.wrap(local, [*self.shape[:-2], *tail], 0, None)

    def oriented(self, stack: Tensor) -> Tensor:
        """`(k, rows, columns)` in the orientation of the parameter, the inverse of [`~MatrixLayout.view`]."""
        stack = stack if len(self.shape) == 3 else stack.squeeze(0)
        return stack.mT if self.flip else stack

    def matrix_view(self, state: Tensor) -> Tensor:
        """State of [`~MatrixLayout.per_row`] or [`~MatrixLayout.per_matrix`] on this process, with a leading axis of `k` matrices."""
        local = local_part(state)
        return local if len(self.shape) == 3 else local.unsqueeze(0)

    def add_(self, parameter: Tensor, update: Tensor, start: int, alpha: float) -> None:
        """Add `alpha * update (k, m, width)` to the rows of `parameter` that begin at `start`.

        A parameter that has to be redistributed takes all its rows at once.
        """
        # A transposing copy and a plain sum beat a sum over transposed memory.
        update = self.oriented(update).contiguous()
        if self.sharding and self.sharding.moves:
            local_part(parameter).add_(self.sharding.give_back(update, parameter), alpha=alpha)
            return
        axis = self.row_axis
        local_part(parameter).narrow(axis, start, update.shape[axis]).add_(update, alpha=alpha)

    def _stack(self, extent: torch.Size) -> list[int]:
        return [extent[0]] if len(self.shape) == 3 else []
