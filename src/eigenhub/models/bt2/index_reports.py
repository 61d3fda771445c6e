# SPDX-License-Identifier: Apache-2.0
"""What an index answers: results of searches, of backfills, and its state."""

from dataclasses import dataclass
from typing import NamedTuple

from eigenhub.models.bt2.index_vectors import Ids, Vectors


class SearchResult(NamedTuple):
    """
    What was found, best first; of shape `(q, k)`, or `(k,)` for a single query.

    Args:
        scores (`NDArray[np.float32]`): inner products.
        ids (`NDArray[np.int64]`): the items.
    """

    scores: Vectors
    ids: Ids


class BackfillReport(NamedTuple):
    """
    What a backfill did.

    Args:
        written (`int`): items that got a vector.
        unchanged (`int`): items that had this vector already, or were removed in the meantime.
    """

    written: int
    unchanged: int


@dataclass(frozen=True)
class IndexStatus:
    """
    A store in figures.

    Args:
        total (`int`): items.
        per_generation (`dict[str, int]`): items by the name of the encoder behind their vectors, oldest first.
        backfilled (`int`): items with a vector of the newest encoder.
        width (`int`): coordinates per vector in the index.
        old_scale (`float`): factor of the vectors of older encoders.
        normalized_on_entry (`bool`): whether the old vectors came without unit norm.
        retrain_due (`bool`): whether an index with learned centroids has never seen the coordinates that the old
            vectors lack, and more than a fifth of the items have them by now.
        disk_bytes (`int`): size of the files, older vectors kept for a rollback included.
    """

    total: int
    per_generation: dict[str, int]
    backfilled: int
    width: int
    old_scale: float
    normalized_on_entry: bool
    retrain_due: bool
    disk_bytes: int

    @property
    def share(self) -> float:
        """Share of the items that are backfilled."""
        return self.backfilled / self.total if self.total else 1.0

    @property
    def pending(self) -> int:
        """Items still to be backfilled."""
        return self.total - self.backfilled
