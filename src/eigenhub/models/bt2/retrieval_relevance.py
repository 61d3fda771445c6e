# SPDX-License-Identifier: Apache-2.0
"""Which items of a gallery answer which query."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


Positions = NDArray[np.int64]
NOBODY: Positions = np.empty(0, np.int64)


@dataclass(frozen=True)
class Relevance:
    """
    Right answers by their positions in the gallery.

    Args:
        relevant (`tuple[NDArray, ...]`): positions that answer each query.
        own (`tuple[NDArray, ...]`): positions of the query itself, which count neither as right nor as wrong.
        gallery_size (`int`): number of items in the gallery.
    """

    relevant: tuple[Positions, ...]
    own: tuple[Positions, ...]
    gallery_size: int

    @classmethod
    def of_labels(
        cls,
        query_labels: ArrayLike,
        gallery_labels: ArrayLike,
        query_ids: ArrayLike | None = None,
        gallery_ids: ArrayLike | None = None,
    ) -> "Relevance":
        """
        The other items of the query's class.

        Args:
            query_labels (`ArrayLike` of shape `(q,)`): classes of the queries.
            gallery_labels (`ArrayLike` of shape `(g,)`): classes of the gallery.
            query_ids (`ArrayLike` of shape `(q,)`, *optional*): identity of the items, with `gallery_ids`: an item is
                no answer to itself. Without ids nothing is left out.
            gallery_ids (`ArrayLike` of shape `(g,)`, *optional*): see `query_ids`.
        """
        if (query_ids is None) != (gallery_ids is None):
            raise ValueError("`query_ids` and `gallery_ids` belong together: give both or neither")
        labels, classes = np.asarray(query_labels), np.asarray(gallery_labels)
        members = _positions(classes)
        own = [NOBODY] * len(labels)
        if query_ids is not None and gallery_ids is not None:
            _check_length("query_ids", query_ids, len(labels))
            _check_length("gallery_ids", gallery_ids, len(classes))
            places = _positions(np.asarray(gallery_ids))
            own = [places.get(item, NOBODY) for item in np.asarray(query_ids).tolist()]
        relevant = [np.setdiff1d(members.get(c, NOBODY), o) for c, o in zip(labels.tolist(), own, strict=True)]
        return cls(tuple(relevant), tuple(own), len(classes))

    @classmethod
    def of_lists(cls, relevant: Sequence[Sequence[int]], gallery_size: int) -> "Relevance":
        """
        Answers that are known, as between questions and documents.

        Args:
            relevant (`Sequence[Sequence[int]]`): positions in the gallery, one list per query.
            gallery_size (`int`): number of items in the gallery.
        """
        found = [np.unique(np.asarray(rows, np.int64)) for rows in relevant]
        if bad := [row for rows in found for row in rows.tolist() if not 0 <= row < gallery_size]:
            raise ValueError(f"`relevant` must hold positions from 0 to {gallery_size - 1}, got {bad[0]}")
        return cls(tuple(found), (NOBODY,) * len(found), gallery_size)

    @classmethod
    def of_pairs(cls, count: int) -> "Relevance":
        """Query number i is answered by item number i, out of `count`."""
        return cls.of_lists([[row] for row in range(count)], count)


def _positions(values: NDArray) -> dict[object, Positions]:
    """Where each value stands."""
    order = np.argsort(values, kind="stable")
    distinct, first = np.unique(values[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, first[1:]), strict=True)) if len(values) else {}


def _check_length(name: str, given: ArrayLike, length: int) -> None:
    if len(np.asarray(given)) != length:
        raise ValueError(f"`{name}` must have {length} entries, one per label, got {len(np.asarray(given))}")
