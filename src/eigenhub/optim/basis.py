# SPDX-License-Identifier: Apache-2.0
r"""Fixed orthonormal bases B (n, n), shared by all matrices of equal width.

A basis knows three maps: rows to coefficients ($S = X B$, in an order of its own choice), a few columns out of them, and a
few coefficients back to rows ($g B_I^\top$).
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from eigenhub.linalg.dct import column_scores, dct_matrix


BASES = ("dct2", "dct3", "random", "identity")
RANDOM_SEED = 0


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


def take_columns(x: Tensor, columns: Tensor) -> Tensor:
    """Columns `(k, r)` of each of the matrices `(k, m, n)`."""
    if len(x) == 1:  # much quicker than a gather on a CPU
        return x[0].index_select(-1, columns[0]).unsqueeze(0)
    return x.gather(-1, columns.unsqueeze(-2).expand(*x.shape[:-1], columns.shape[-1]))
