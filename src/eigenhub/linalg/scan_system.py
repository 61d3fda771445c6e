# SPDX-License-Identifier: Apache-2.0
"""A time-invariant diagonal system with its input, ready to be worked through block by block."""

import torch
from torch import Tensor

from eigenhub.linalg.scan_blocks import Block, Layout
from eigenhub.linalg.scan_recurrence import Diagonal


class Projector:
    """Products of a block's inputs with a matrix, written into one buffer that is used again for the next block.

    Args:
        layout (`Layout`): the cut.
        matrix (`Tensor` of shape `(features, 2 * states)`): columns are real and imaginary parts in turn.
    """

    def __init__(self, layout: Layout, matrix: Tensor) -> None:
        self.layout, self.matrix = layout, matrix
        steps = layout.group * layout.chunks * layout.chunk
        self.buffer = matrix.new_empty(steps, 2 * layout.states)

    def __call__(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """`source @ matrix`.

        Args:
            source (`Tensor` of shape `(rows, steps, features)`): inputs of a block.

        Returns:
            The product `(rows, steps, 2 * states)` and the same memory as complex numbers
            `(rows, chunks, chunk, states)`, filled up with zeros to whole chunks.
        """
        rows, steps, _ = source.shape
        chunk, states = self.layout.chunk, self.layout.states
        chunks = -(-steps // chunk)
        padded = self.buffer[: rows * chunks * chunk].view(rows, chunks * chunk, 2 * states)
        padded[:, steps:] = 0
        product = padded[:, :steps]
        torch.bmm(source, self.matrix.expand(rows, -1, -1), out=product)
        return product, torch.view_as_complex(padded.view(rows, chunks, chunk, states, 2))


class System:
    """A diagonal system and its input, prepared for either pass.

    Args:
        u (`Tensor` of shape `(batch, length >= 1, features)`): input, any floating dtype.
        lbar (`Tensor` of shape `(states, 2)`): diagonal, float32 or float64.
        w_in (`Tensor` of shape `(2 * states, features)`): real and imaginary rows of the input map in turn; its dtype
            is that of the work, and of all that follows.
        w_out (`Tensor` of shape `(features, 2 * states)`): the output is `w_out` times the state as real numbers.
        d (`Tensor` of shape `(features,)` or `None`): feedthrough.
        state (`Tensor` of shape `(batch, states, 2)`): state before the first step.
        lengths (`Tensor` of shape `(batch,)` or `None`): steps after which the final state is taken.
        reverse (`bool`): run from the last step to the first.
        chunk_size (`int`): steps of a chunk, 0 for our choice.
    """

    def __init__(
        self,
        u: Tensor,
        lbar: Tensor,
        w_in: Tensor,
        w_out: Tensor,
        d: Tensor | None,
        state: Tensor,
        lengths: Tensor | None,
        reverse: bool,
        chunk_size: int,
    ) -> None:
        batch, length, _ = u.shape
        self.u, self.w_in, self.w_out, self.d, self.reverse = u, w_in, w_out, d, reverse
        self.layout = Layout.of(batch, length, lbar.shape[0], chunk_size, u.device)
        self.state = torch.view_as_complex(state.contiguous())
        self.diagonal = Diagonal(lbar, self.layout.chunk, self.layout.chunks, self.state.dtype)
        self.drive = Projector(self.layout, w_in.mT)
        self.first, self.end = (length - 1, 0) if reverse else (0, length - 1)
        self.ragged = lengths is not None
        last = torch.full((batch,), self.end, device=u.device)
        self.last = last if lengths is None else lengths.long().clamp(0, length) - 1

    def source(self, block: Block) -> Tensor:
        """Input of a block in the dtype of the work.

        Args:
            block (`Block`): part of the batch.
        """
        return self.u[block.rows, block.steps].to(self.w_in.dtype)

    def drives(self, block: Block, source: Tensor) -> tuple[Tensor, Tensor]:
        """Drives of a block as real and as complex numbers; the initial state is in the first of them.

        Args:
            block (`Block`): part of the batch.
            source (`Tensor` of shape `(rows, steps, features)`): its input.
        """
        product, x = self.drive(source)
        if block.has(self.first):
            x.flatten(1, 2)[:, self.first - block.steps.start] += self.diagonal.one * self.state[block.rows]
        return product, x

    def final(self, block: Block) -> tuple[tuple[Tensor, Tensor], Tensor] | None:
        """Where the final states of a block's rows lie among its steps, and a column that says whether they do.

        Args:
            block (`Block`): part of the batch. `None` is returned if no final state can be in it.
        """
        if not self.ragged and not block.has(self.end):
            return None
        last = self.last[block.rows]
        inside = (last >= block.steps.start) & (last < block.steps.stop)
        step = (last - block.steps.start).clamp(0, block.steps.stop - block.steps.start - 1)
        return (torch.arange(len(last), device=last.device), step), inside[:, None]


def emit(target: Tensor, product: Tensor, matrix: Tensor, source: Tensor, d: Tensor | None) -> None:
    """`target = product @ matrix + d * source`, straight into place where the dtypes agree."""
    out = target if target.dtype == product.dtype else torch.empty_like(target, dtype=product.dtype)
    torch.bmm(product, matrix.expand(len(product), -1, -1), out=out)
    if d is not None:
        out.addcmul_(source, d)
    if out is not target:
        target.copy_(out)
