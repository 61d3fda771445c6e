# SPDX-License-Identifier: Apache-2.0
r"""Fixed orthonormal bases B (n, n), shared by all matrices of equal width.

A basis knows three maps: rows to coefficients ($S = X B$, in an order of its own choice), a few columns out of them, and a
few coefficients back to rows ($g B_I^\top$). The cosine bases do the first and the last by FFT, in blocks of rows that stay
in cache on a CPU and in one call on an accelerator.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from eigenhub.linalg.dct import column_scores, dct_matrix, use_fft
from eigenhub.linalg.dct_plan import DctPlan, dct_plan


BASES = ("dct2", "dct3", "random", "identity")
RANDOM_SEED = 0
# A CPU does the way back by a product up to this many columns (measured at n = 1024 and 2048: the FFT costs about as much
# as 150 columns); the product of an accelerator is quick enough for any part of the columns.
CPU_MATMUL_COLUMNS = 128
# Bytes of one block of rows on a CPU: a few buffers of this size fit into its second-level cache.
CPU_BLOCK_BYTES = 2**20


def basis_matrix(kind: str, n: int, dtype: torch.dtype, device: torch.device | str | None = None) -> Tensor:
    """The matrix B whose columns are the basis vectors.

    Args:
        kind (`str`): `"dct2"`, `"dct3"`, `"random"` (QR of a seeded Gaussian, the same everywhere) or `"identity"`.
        n (`int`): width.
        dtype (`torch.dtype`): dtype of the result; it is computed in float64.
        device (`torch.device` or `str`, *optional*): device of the result.
    """
    if kind == "identity":
        return torch.eye(n, dtype=dtype, device=device)
    if kind == "random":
        generator = torch.Generator().manual_seed(RANDOM_SEED)
        q, r = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
        return (q * r.diagonal().sign()).to(device=device, dtype=dtype)
    if kind not in BASES:
        raise ValueError(f"`basis` must be one of {', '.join(BASES)}, got {kind!r}")
    matrix = dct_matrix(n, dtype, device)
    return matrix.mT if kind == "dct2" else matrix


class Basis:
    """A basis applied by matrix products; subclasses replace what they can do faster.

    Args:
        kind (`str`): one of `BASES`.
        n (`int`): width of the rows.
        dtype (`torch.dtype`): `torch.float32` or `torch.float64`; rows of any other dtype are converted.
        device (`torch.device`): where the rows lie.
    """

    def __init__(self, kind: str, n: int, dtype: torch.dtype, device: torch.device) -> None:
        self.kind, self.n, self.dtype, self.device = kind, n, dtype, device
        #: A CPU works through blocks of rows that stay in cache, an accelerator through everything in one call.
        self.blockwise = device.type == "cpu"

    @property
    def block_rows(self) -> int:
        """Rows of one block."""
        return max(1, CPU_BLOCK_BYTES // (self.n * self.dtype.itemsize))

    @cached_property
    def vectors(self) -> Tensor:
        r"""$B^\top$ (n, n): row j is basis vector j."""
        return basis_matrix(self.kind, self.n, self.dtype, self.device).mT.contiguous()

    @property
    def nbytes(self) -> int:
        """Bytes of the stored matrix, 0 as long as none was needed."""
        return self.vectors.nbytes if "vectors" in self.__dict__ else 0

    def analyse(self, blocks: Sequence[Tensor]) -> Tensor:
        """Coefficients of all rows of `blocks`, each `(m, n)`, in one call; columns in the basis' own order."""
        return self._joined(blocks) @ self.vectors.mT

    def natural(self, stored: Tensor) -> Tensor:
        """Entries per column, brought from the basis' own order into that of the basis vectors."""
        return stored

    def stored(self, indices: Tensor) -> Tensor:
        """Columns in the basis' own order that hold the basis vectors `indices`."""
        return indices

    def analyse_and_score(self, blocks: Sequence[Tensor], norm: int) -> tuple[Tensor, Tensor]:
        """[`~Basis.analyse`], and the scores `(len(blocks), n)` of the basis vectors in every block."""
        spectrum = self.analyse(blocks)
        parts = spectrum.split([block.shape[0] for block in blocks])
        if len({len(part) for part in parts}) == 1:
            stacked = spectrum.unflatten(0, (len(parts), len(parts[0])))
            return spectrum, self.natural(column_scores(stacked, norm))
        return spectrum, self.natural(torch.stack([column_scores(part, norm) for part in parts]))

    def take(self, spectrum: Tensor, indices: Tensor) -> Tensor:
        """The coefficients `(k, m, r)` of the basis vectors `indices (k, r)` out of `(k, m, n)`."""
        return take_columns(spectrum, self.stored(indices))

    def project(self, blocks: Sequence[Tensor], indices: Tensor) -> Tensor:
        """$A B_I$ `(k, m, r)` for equal matrices `blocks` and their `indices (k, r)`."""
        if self._by_product(indices.shape[-1]):
            return torch.stack([b.to(self.dtype) @ v.mT for b, v in zip(blocks, self.vectors[indices], strict=True)])
        return self.take(self.analyse(blocks).unflatten(0, (len(blocks), -1)), indices)

    def synthesise(self, coefficients: Tensor, indices: Tensor) -> Tensor:
        r"""$g B_I^\top$ `(k, m, n)` from `coefficients (k, m, r)` and `indices (k, r)`."""
        return coefficients @ self.vectors[indices]

    def _by_product(self, columns: int) -> bool:
        return True

    def _joined(self, blocks: Sequence[Tensor]) -> Tensor:
        blocks = [block.to(self.dtype) for block in blocks]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


class IdentityBasis(Basis):
    """The coordinate axes: no transform at all."""

    @property
    def nbytes(self) -> int:
        """Nothing is stored."""
        return 0

    def analyse(self, blocks: Sequence[Tensor]) -> Tensor:
        return self._joined(blocks)

    def project(self, blocks: Sequence[Tensor], indices: Tensor) -> Tensor:
        return take_columns(self.analyse(blocks).unflatten(0, (len(blocks), -1)), indices)

    def synthesise(self, coefficients: Tensor, indices: Tensor) -> Tensor:
        rows = coefficients.new_zeros(*coefficients.shape[:-1], self.n)
        return rows.scatter_(-1, indices.unsqueeze(-2).expand_as(coefficients), coefficients)


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

    def natural(self, stored: Tensor) -> Tensor:
        return stored.index_select(-1, self.places)

    def stored(self, indices: Tensor) -> Tensor:
        return self.places[indices]

    def analyse(self, blocks: Sequence[Tensor]) -> Tensor:
        spectrum = torch.empty(
            sum(b.shape[0] for b in blocks), self.stored_width, dtype=self.dtype, device=self.device
        )
        for _, low, piece in self._pieces(blocks):
            self._forth(piece, out=spectrum[low : low + piece.shape[0]])
        return spectrum

    def analyse_and_score(self, blocks: Sequence[Tensor], norm: int) -> tuple[Tensor, Tensor]:
        if not self.blockwise:
            return super().analyse_and_score(blocks, norm)
        spectrum = torch.empty(
            sum(b.shape[0] for b in blocks), self.stored_width, dtype=self.dtype, device=self.device
        )
        scores = spectrum.new_zeros(len(blocks), self.stored_width)
        for block, low, piece in self._pieces(blocks):
            out = spectrum[low : low + piece.shape[0]]
            self._forth(piece, out=out)
            scores[block] += column_scores(out, norm)  # while it is in cache
        return spectrum, self.natural(scores)

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
                yield i, low, piece.to(self.dtype, memory_format=torch.contiguous_format)
                low += piece.shape[0]

    def _forth(self, rows: Tensor, out: Tensor) -> None:
        if self.kind == "dct2":
            self.plan.pack(rows.index_select(-1, self.plan.order), out=out)
        else:
            packed = rows.new_zeros(rows.shape[0], self.plan.width)
            out.copy_(self.plan.unpack(packed.index_copy_(-1, self.plan.position, rows)))

    def _back(self, spread: Tensor, out: Tensor) -> None:
        if self.kind == "dct2":
            torch.index_select(self.plan.unpack(spread), -1, self.plan.inverse_order, out=out)
        else:
            torch.index_select(self.plan.pack(spread), -1, self.plan.position, out=out)


def take_columns(x: Tensor, columns: Tensor) -> Tensor:
    """Columns `(k, r)` of each of the matrices `(k, m, n)`."""
    if len(x) == 1:  # much quicker than a gather on a CPU
        return x[0].index_select(-1, columns[0]).unsqueeze(0)
    return x.gather(-1, columns.unsqueeze(-2).expand(*x.shape[:-1], columns.shape[-1]))


@lru_cache(maxsize=64)
def get_basis(kind: str, n: int, dtype: torch.dtype, device: torch.device, transform: str = "auto") -> Basis:
    """The one basis of this kind and width, shared by all optimizers of the process.

    Args:
        kind (`str`): one of `BASES`.
        n (`int`): width.
        dtype (`torch.dtype`): `torch.float32` or `torch.float64`.
        device (`torch.device`): where the rows lie.
        transform (`str`, *optional*, defaults to `"auto"`): `"fft"` stores nothing; `"matmul"` stores n² numbers;
            `"auto"` transforms whole rows by FFT where that is faster and uses the stored matrix for few columns.
    """
    if kind == "identity":
        return IdentityBasis(kind, n, dtype, device)
    if kind.startswith("dct") and use_fft(n, device, transform):
        return FourierBasis(kind, n, dtype, device, products=transform == "auto")
    return Basis(kind, n, dtype, device)
