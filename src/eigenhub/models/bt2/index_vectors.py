# SPDX-License-Identifier: Apache-2.0
"""What may enter an index: finite rows of the right width and norm, with 64-bit integers as ids."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

CHUNK = 1 << 16
#: Half precision moves the norm of a unit vector by less.
NORM_TOLERANCE = 1e-2


def checked_ids(ids: ArrayLike) -> Ids:
    """
    Ids as one row of distinct 64-bit integers, none of them negative.

    Args:
        ids (`ArrayLike` of shape `(b,)`): keys of the items. Keep a table of your own for keys that are text.
    """
    found = np.asarray(ids)
    if found.ndim != 1 or not (np.issubdtype(found.dtype, np.integer) or found.size == 0):
        raise ValueError(
            f"`ids` must be one row of 64-bit integers, got dtype {found.dtype} and shape {found.shape}; "
            f"map other keys to numbers"
        )
    if found.size and found.min() < 0:
        raise ValueError(f"`ids` must not be negative: -1 stands for nothing found; got {shown(found[found < 0])}")
    if len(np.unique(found)) != len(found):
        values, counts = np.unique(found, return_counts=True)
        raise ValueError(f"`ids` must be distinct, got several of {shown(values[counts > 1])}")
    return found.astype(np.int64, copy=False)


def checked_vectors(
    vectors: ArrayLike, widths: Sequence[int], ids: Ids | None = None, name: str = "vectors"
) -> Vectors:
    """
    Vectors as finite float32 rows, none of them zero.

    Args:
        vectors (`ArrayLike` of shape `(b, d)`): embeddings.
        widths (`Sequence[int]`): values of `d` that fit.
        ids (`NDArray[np.int64]` of shape `(b,)`, *optional*): ids of the rows, for messages and to compare the number.
        name (`str`, *optional*, defaults to `"vectors"`): name of the argument, for messages.
    """
    rows = np.ascontiguousarray(vectors, np.float32)
    if rows.ndim != 2 or rows.shape[1] not in widths:
        wanted = " or ".join(str(width) for width in sorted(set(widths)))
        raise ValueError(f"`{name}` must have shape (rows, {wanted}), got {rows.shape}")
    if ids is not None and len(ids) != len(rows):
        raise ValueError(f"`ids` and `{name}` must be of one length, got {len(ids)} and {len(rows)}")
    lengths = norms(rows)
    for bad, what in ((~np.isfinite(lengths), "NaN or infinite values"), (lengths == 0, "only zeros")):
        if bad.any():
            where = np.flatnonzero(bad)
            label = f"rows {shown(where)}" if ids is None else f"ids {shown(ids[where])}"
            raise ValueError(f"`{name}` must be finite and not zero: {label} hold {what}")
    return rows


def norms(rows: Vectors) -> NDArray[np.float64]:
    """Euclidean norms, some rows at a time: a million vectors are not copied."""
    parts = [np.einsum("ij,ij->i", part, part, dtype=np.float64) for part in chunks(rows)]
    return np.sqrt(np.concatenate(parts)) if parts else np.empty(0)


def is_unit(rows: Vectors) -> bool:
    """Whether all rows have norm one, up to the rounding of half precision."""
    return bool(np.all(np.abs(norms(rows) - 1) <= NORM_TOLERANCE))


def unit(rows: Vectors) -> Vectors:
    """The rows divided by their norms."""
    return rows * (1 / norms(rows)).astype(np.float32)[:, None]


def padded(rows: Vectors, width: int, scale: float = 1.0) -> Vectors:
    """
    `[scale * row, 0]`: how an old vector stands in an index of wider ones.

    Args:
        rows (`NDArray[np.float32]` of shape `(b, d)`): vectors.
        width (`int`): number of coordinates, at least `d`.
        scale (`float`, *optional*, defaults to 1.0): factor of the vectors.
    """
    if rows.shape[1] == width and scale == 1.0:
        return rows
    wide = np.zeros((len(rows), width), np.float32)
    np.multiply(rows, np.float32(scale), out=wide[:, : rows.shape[1]])
    return wide


def chunks(rows: NDArray, size: int = CHUNK) -> list[NDArray]:
    """Views of consecutive rows."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def shown(values: ArrayLike, limit: int = 10) -> str:
    """The first few values, for messages."""
    array = np.asarray(values)
    more = f", ... ({len(array)} in all)" if len(array) > limit else ""
    return ", ".join(str(value) for value in array[:limit].tolist()) + more
