# SPDX-License-Identifier: Apache-2.0
r"""The diagonal recurrence of one block of chunks, as few calls on large slices.

Step t of all chunks of a block is one fused multiply-add on a slice.

1. Each chunk is run from zero, keeping only its last state.
2. These last states are a sequence of their own with the diagonal $\bar\lambda^T$; its prefix sums, in log-many
   rounds, are the states before each chunk. The powers come from float64: in float32 their phase drifts.
3. Each chunk is run again from the state before it.
"""

import torch
from torch import Tensor

from eigenhub.linalg.powers import wide_dtype


def travel(x: Tensor, reverse: bool) -> list[Tensor]:
    """Slices of a block, one for each step of its chunks, in the order in which the recurrence meets them.

    Args:
        x (`Tensor` of shape `(rows, chunks, chunk, states)`): a block.
        reverse (`bool`): the recurrence runs against time.
    """
    slices = list(x.unbind(2))
    return slices[::-1] if reverse else slices


class Diagonal:
    r"""The diagonal of a recurrence, `one` in the dtype of the work, and its `powers` over 1, 2, 4, ... chunks.

    Args:
        lbar (`Tensor` of shape `(states, 2)`): diagonal as pairs, in its own precision.
        chunk (`int`): steps of a chunk.
        chunks (`int`): most chunks that a block has.
        dtype (`torch.dtype`): complex dtype of the work.
    """

    def __init__(self, lbar: Tensor, chunk: int, chunks: int, dtype: torch.dtype) -> None:
        exact = torch.view_as_complex(lbar.to(wide_dtype(lbar.dtype, lbar.device)).contiguous())
        self.one, self.wide = exact.to(dtype), exact.dtype
        reaches = chunk * 2 ** torch.arange(chunks.bit_length(), device=lbar.device)
        powers = torch.polar(exact.abs() ** reaches[:, None], exact.angle() * reaches[:, None])
        self.powers = list(powers.to(dtype).unbind())

    def enter(self, slices: list[Tensor], carry: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
        """The states before each chunk of a block of drives, and the state after the block.

        Args:
            slices (`list[Tensor]` of shape `(rows, chunks, states)`): drives in the order of travel, complex.
            carry (`Tensor` of shape `(rows, states)`): state before the block.
            reverse (`bool`): the recurrence runs against time.

        Returns:
            `(rows, chunks, states)`, in the order of time, and `(rows, states)`.
        """
        ends = slices[0].clone(memory_format=torch.contiguous_format)
        for drive in slices[1:]:
            torch.addcmul(drive, self.one, ends, out=ends)
        states, reach = torch.cat([carry[:, None], ends.flip(1) if reverse else ends], dim=1), 1
        for power in self.powers:
            if reach < states.shape[1]:
                states[:, reach:] += power * states[:, :-reach]
                reach *= 2
        return states[:, :-1].flip(1) if reverse else states[:, :-1], states[:, -1]

    def run(self, slices: list[Tensor], entered: Tensor) -> None:
        """Turn a block of drives into states, in place.

        Args:
            slices (`list[Tensor]` of shape `(rows, chunks, states)`): drives in the order of travel, complex.
            entered (`Tensor` of shape `(rows, chunks, states)`): the state before each chunk, in the order of time.
        """
        before = entered
        for now in slices:
            before = now.addcmul_(self.one, before)
