# SPDX-License-Identifier: Apache-2.0
"""The cosine bases by FFT, in blocks of rows that stay in cache on a CPU and in one call on an accelerator."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from eigenhub.linalg.dct import column_scores
from eigenhub.linalg.dct_plan import DctPlan, dct_plan
from eigenhub.optim.basis import Basis
from eigenhub.optim.blocks import contiguous_rows, reordered, rows_in_cache


# A CPU projects and comes back by a product up to this many columns (at widths from 256 to 2048 the FFT costs about as much
# as 64 of them); the product of an accelerator is quick enough for any part of the columns.
CPU_MATMUL_COLUMNS = 64


class FourierBasis(Basis):
    """A cosine basis by real FFTs; `"dct3"` is `"dct2"` with the two directions exchanged.

    Args:
        products (`bool`): whether few columns may go through the stored matrix.
    """

    def __init__(self, kind: str, n: int, dtype: torch.dtype, device: torch.device, products: bool) -> None:
        super().__init__(kind, n, dtype, device)
        self.products = products
        self.plan: DctPlan = dct_plan(n, dtype, device)
        #: Where the coefficients lie after `_forth`, which is where `_back` wants them.
        self.places = self.plan.position if kind == "dct2" else self.plan.inverse_order
        self.stored_width = self.plan.width if kind == "dct2" else n

    @property
    def block_rows(self) -> int:
        """Rows of one block on a CPU."""
        return rows_in_cache(self.n * self.dtype.itemsize)

    def natural(self, stored: Tensor) -> Tensor:
        return stored.index_select(-1, self.places)

    def stored(self, indices: Tensor) -> Tensor:
        return self.places[indices]

    def analyse(self, blocks: Sequence[Tensor]) -> Tensor:
        spectrum = self._empty(sum(block.shape[0] for block in blocks))
        for _, low, piece in self._pieces(blocks):
            self._forth(piece, out=spectrum[low : low + piece.shape[0]])
        return spectrum

    def analyse_and_score(self, blocks: Sequence[Tensor], norm: int) -> tuple[Tensor, Tensor]:
        if not self.blockwise:
            return super().analyse_and_score(blocks, norm)
        spectrum = self._empty(sum(block.shape[0] for block in blocks))
        scores = spectrum.new_zeros(len(blocks), self.stored_width)
        for block, low, piece in self._pieces(blocks):
            out = spectrum[low : low + piece.shape[0]]
            self._forth(piece, out=out)
            scores[block] += column_scores(out, norm)  # while it is in cache
        return spectrum, self.natural(scores)

    def project(self, blocks: Sequence[Tensor], indices: Tensor) -> Tensor:
        rows = blocks[0].shape[0]
        if not self.blockwise or rows == 0 or self._by_product(indices.shape[-1]):
            return super().project(blocks, indices)
        inside = torch.empty(*indices.shape[:1], rows, indices.shape[1], dtype=self.dtype, device=self.device)
        columns = self.stored(indices)
        buffer = self._empty(min(rows, self.block_rows))
        for block, low, piece in self._pieces(blocks):
            start = low - block * rows
            spectrum = buffer[: piece.shape[0]]
            self._forth(piece, out=spectrum)
            torch.index_select(spectrum, -1, columns[block], out=inside[block, start : start + piece.shape[0]])
        return inside

    def synthesise(self, coefficients: Tensor, indices: Tensor) -> Tensor:
        if self._by_product(coefficients.shape[-1]):
            return super().synthesise(coefficients, indices)
        k, m, _ = coefficients.shape
        rows = torch.empty(k, m, self.n, dtype=self.dtype, device=self.device)
        step = self.block_rows if self.blockwise else max(1, m)
        for start in range(0, m, step):
            piece = coefficients[:, start : start + step]
            spread = piece.new_zeros(*piece.shape[:-1], self.stored_width)
            spread.scatter_(-1, self.stored(indices).unsqueeze(-2).expand_as(piece), piece)
            out = rows[:, start : start + step]
            # Two dimensions where possible: a selection from three is several times slower on a CPU.
            self._back(spread[0] if k == 1 else spread, out=out[0] if k == 1 else out)
        return rows

    def _by_product(self, columns: int) -> bool:
        return self.products and (columns <= CPU_MATMUL_COLUMNS or not self.blockwise)

    def _pieces(self, blocks: Sequence[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
        """Number of the block, first row and rows of everything that is transformed in one call."""
        if not self.blockwise:
            if any(block.shape[0] for block in blocks):  # an FFT of no rows is an error
                yield 0, 0, self._joined(blocks)
            return
        low = 0
        for i, block in enumerate(blocks):
            for piece in block.split(self.block_rows) if block.shape[0] else ():
                yield i, low, piece.to(self.dtype)
                low += piece.shape[0]

    def _forth(self, rows: Tensor, out: Tensor) -> None:
        if self.kind == "dct2":
            self.plan.pack(reordered(rows, self.plan.order), out=out)
        else:
            packed = rows.new_zeros(rows.shape[0], self.plan.width)
            out.copy_(self.plan.unpack(packed.index_copy_(-1, self.plan.position, contiguous_rows(rows))))

    def _back(self, spread: Tensor, out: Tensor) -> None:
        if self.kind == "dct2":
            torch.index_select(self.plan.unpack(spread), -1, self.plan.inverse_order, out=out)
        else:
            torch.index_select(self.plan.pack(spread), -1, self.plan.position, out=out)

    def _empty(self, rows: int) -> Tensor:
        return torch.empty(rows, self.stored_width, dtype=self.dtype, device=self.device)
