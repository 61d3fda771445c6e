# SPDX-License-Identifier: Apache-2.0
"""How much is worked on at a time: rows under a budget of memory and, on a CPU, in blocks that stay in cache.

The rows of a wide matrix lie as columns in memory. Reading a block of them entry by entry costs a CPU several times the
transform that follows, worst where the stride is a power of two; here such a block is copied line by line first and then
turned round in cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


# Bytes of one block of rows on a CPU: a few buffers of this size fit into its second-level cache.
CPU_BLOCK_BYTES = 2**20


def default_budget(device: torch.device) -> int:
    """Bytes of one full-width temporary: small enough on a CPU to be reused by the allocator, large enough to fill a GPU."""
    return 2**24 if device.type == "cpu" else 2**28


def block_budget(budget: int, device: torch.device) -> int:
    """Bytes of a piece that is written and soon read again: within the budget, and on a CPU within the cache."""
    return min(budget, CPU_BLOCK_BYTES) if device.type == "cpu" else budget


def rows_in_cache(row_bytes: int) -> int:
    """Rows of one block on a CPU."""
    return max(1, CPU_BLOCK_BYTES // max(1, row_bytes))


def row_pieces(rows: int, row_bytes: int, budget: int) -> Iterator[slice]:
    """Slices of `rows` whose full-width temporaries stay within `budget` bytes; one empty slice for no rows."""
    step = max(1, budget // max(1, row_bytes))
    for start in range(0, max(1, rows), step):
        yield slice(start, min(start + step, rows))


def matrix_pieces(rows: Tensor, budget: int) -> Iterator[slice]:
    """Slices along the rows of matrices `(k, m, n)`, each small enough to be written and soon read again."""
    return row_pieces(
        rows.shape[1], rows.shape[0] * rows.shape[2] * rows.element_size(), block_budget(budget, rows.device)
    )


def reordered(rows: Tensor, order: Tensor) -> Tensor:
    """`rows[:, order]` of a matrix, contiguous."""
    if _lies_in_columns(rows):
        return rows.mT.index_select(0, order).mT.contiguous()
    return rows.index_select(-1, order)


def contiguous_rows(rows: Tensor) -> Tensor:
    """Matrices `(..., m, n)` with their rows one after the other in memory."""
    if not _lies_in_columns(rows):
        return rows.contiguous()
    result = torch.empty(rows.shape, dtype=rows.dtype)
    lines = rows.mT.contiguous()
    for matrix, turned in zip(result.view(-1, *rows.shape[-2:]), lines.view(-1, *lines.shape[-2:]), strict=True):
        matrix.copy_(turned.mT)
    return result


def add_rows_(total: Tensor, rows: Tensor, budget: int, alpha: float = 1.0) -> Tensor:
    """Add `alpha * rows` to `total`, both `(k, m, n)`, in place and block by block."""
    if not _lies_in_columns(rows):
        return total.add_(rows, alpha=alpha)
    for piece in matrix_pieces(total, budget):
        total[:, piece].add_(contiguous_rows(rows[:, piece]), alpha=alpha)
    return total


def row_norms(rows: Tensor, dtype: torch.dtype, budget: int) -> Tensor:
    """Euclidean norms `(k, m)` of the rows of `(k, m, n)`."""
    if not _lies_in_columns(rows):
        return torch.linalg.vector_norm(rows, dim=-1, dtype=dtype)
    pieces = (contiguous_rows(rows[:, piece]) for piece in matrix_pieces(rows, budget))
    return torch.cat([torch.linalg.vector_norm(piece, dim=-1, dtype=dtype) for piece in pieces], dim=1)


def _lies_in_columns(rows: Tensor) -> bool:
    return rows.device.type == "cpu" and rows.stride(-2) == 1 and rows.shape[-2] > 1 and rows.stride(-1) > 1
