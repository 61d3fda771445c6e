# SPDX-License-Identifier: Apache-2.0
"""In which order the items of an index are best backfilled."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from eigenhub.models.bt2.index_store import IndexStore
from eigenhub.models.bt2.index_vectors import Ids


Order = Literal["hot", "random", "class_mean", "ids"]


def order_pending(
    store: IndexStore, order: Order, labels: ArrayLike | None, hits: Mapping[int, int], seed: int
) -> Ids:
    """
    Items that have no vector of the newest encoder yet, in a good order.

    Args:
        store (`IndexStore`): the store.
        order (`str`): `"hot"`, `"random"`, `"class_mean"` or `"ids"`, see [`CompatibleIndex.plan`].
        labels (`ArrayLike` of shape `(items,)`, *optional*): class of each item, in the order of the store.
        hits (`Mapping[int, int]`): how often each item was found.
        seed (`int`): of `"random"`.
    """
    if order not in get_args(Order):
        raise ValueError(f"`order` must be one of {', '.join(get_args(Order))}; got {order!r}")
    rows = store.backend.rows
    pending = np.flatnonzero(rows.generation != len(store.stamp.generations) - 1)
    ids = rows.ids[pending]
    if order == "random":
        return np.random.default_rng(seed).permutation(ids)
    if order == "ids":
        return np.sort(ids)
    if order == "hot":
        counts = np.fromiter((hits.get(item, 0) for item in ids.tolist()), np.int64, len(ids))
        return ids[np.argsort(-counts, kind="stable")]
    if labels is None or len(np.asarray(labels)) != len(rows):
        raise ValueError(f"`labels` must give the class of each of the {len(rows)} items for the order class_mean")
    return ids[np.argsort(-_distances(store.old_vectors(ids), np.asarray(labels)[pending]), kind="stable")]


def _distances(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Distance of each vector from the mean of its class."""
    _, classes = np.unique(labels, return_inverse=True)
    sums = np.zeros((classes.max(initial=-1) + 1, vectors.shape[1]))
    np.add.at(sums, classes, vectors)
    means = sums / np.bincount(classes)[:, None]
    return np.linalg.norm(vectors - means[classes], axis=1)
