# SPDX-License-Identifier: Apache-2.0
"""Sums of products of low rank, kept as two factors."""

import torch
from torch import Tensor

from eigenhub.linalg.lowrank import truncated_product_svd


class LowRankSum:
    r"""A sum $\sum_k c_k B_k A_k$ as one product of two matrices in float64; the sum itself is never formed.

    Where the stacked factors would have more columns than the sum has rank, they are compressed by the SVD of their
    product, which loses nothing but rounding. Memory stays below twice that of the dense sum, however many terms enter.

    Args:
        left (`Tensor` of shape `(m, rank)`, *optional*): where to start from.
        right (`Tensor` of shape `(rank, n)`, *optional*): with `left`.
    """

    def __init__(self, left: Tensor | None = None, right: Tensor | None = None) -> None:
        self._parts: list[tuple[Tensor, Tensor]] = []
        if left is not None and right is not None:
            self._parts.append((left.double(), right.double()))

    def add(self, b: Tensor, a: Tensor, coefficient: float = 1.0) -> None:
        """Add `coefficient * b @ a`.

        Args:
            b (`Tensor` of shape `(m, r)`): left factor.
            a (`Tensor` of shape `(r, n)`): right factor.
            coefficient (`float`, *optional*, defaults to 1.0): its weight.
        """
        self._parts.append((coefficient * b.double(), a.double()))
        if sum(left.shape[1] for left, _ in self._parts) > min(b.shape[0], a.shape[1]):
            self._parts = [self.compressed()]

    def factors(self) -> tuple[Tensor, Tensor]:
        """`left (m, rank)` and `right (rank, n)` whose product is the sum, as they stand."""
        lefts, rights = zip(*self._parts, strict=True)
        return torch.cat(lefts, dim=1), torch.cat(rights, dim=0)

    def num_bytes(self) -> int:
        """Bytes of its factors as float32, which is how they are sent."""
        return 4 * sum(factor.numel() for factor in self.factors())

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """`u (m, k)`, `s (k,)`, `vh (k, n)` of the sum with all triplets that its factors can hold, `k <= rank`."""
        left, right = self.factors()
        return truncated_product_svd(left, right, min(*left.shape, right.shape[1]))

    def compressed(self) -> tuple[Tensor, Tensor]:
        """The same sum by its singular triplets, without those that are rounding errors."""
        u, s, vh = self.svd()
        floor = s[0] * max(len(u), vh.shape[1]) * torch.finfo(s.dtype).eps
        rank = max(1, int((s > floor).sum()))
        return u[:, :rank] * s[:rank], vh[:rank]
