# SPDX-License-Identifier: Apache-2.0
"""Both generations in stores that know only cosines: two filtered searches, merged on one scale."""

import numpy as np
from numpy.typing import ArrayLike

from eigenhub.models.bt2.index_reports import SearchResult
from eigenhub.models.bt2.index_vectors import checked_vectors


def merge_cosine_results(
    queries: ArrayLike, old_dim: int, old: SearchResult, new: SearchResult, k: int = 10, old_scale: float = 1.0
) -> SearchResult:
    r"""
    Merge the hits among old vectors with those among new ones.

    A store of cosines divides by lengths, so it loses both the factor of old vectors and the length of the part of a
    query that they are compared with. With $s = \lVert z_{1:m} \rVert / \lVert z \rVert$ an old cosine becomes
    comparable with a new one as $\beta\, s \cos(z_{1:m}, o)$.

    Args:
        queries (`ArrayLike` of shape `(q, n + k)`): whole vectors of the new encoder, of any length.
        old_dim (`int`): $m$.
        old (`SearchResult`): cosines and ids of a search for `queries[:, :m]` among old vectors.
        new (`SearchResult`): cosines and ids of a search for `queries` among new vectors.
        k (`int`, *optional*, defaults to 10): hits per query to keep.
        old_scale (`float`, *optional*, defaults to 1.0): $\beta$.

    Returns:
        `SearchResult` as that of one search in a store of inner products.

    Example:

    ```python
    >>> import numpy as np
    >>> from eigenhub.models.bt2 import SearchResult, merge_cosine_results
    >>> old = SearchResult(np.array([[1.0]]), np.array([[7]]))
    >>> new = SearchResult(np.array([[0.7]]), np.array([[8]]))
    >>> merge_cosine_results([[0.6, 0.8]], 1, old, new).ids
    array([[8, 7]])
    ```
    """
    rows = np.asarray(queries, np.float32)
    if rows.ndim != 2 or not 0 < old_dim <= rows.shape[1]:
        raise ValueError(f"`old_dim` must be between 1 and the width of the queries, {rows.shape}; got {old_dim}")
    checked_vectors(rows, [rows.shape[1]], name="queries")
    share = np.linalg.norm(rows[:, :old_dim], axis=1) / np.linalg.norm(rows, axis=1)
    scores = np.hstack([np.float32(old_scale) * share[:, None] * old.scores, new.scores]).astype(np.float32)
    ids = np.hstack([old.ids, new.ids])
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return SearchResult(np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1))
