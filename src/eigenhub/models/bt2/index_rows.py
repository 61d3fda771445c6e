# SPDX-License-Identifier: Apache-2.0
"""Which items a store holds, and of which generation each is."""

import numpy as np

from eigenhub.models.bt2.index_vectors import Ids, shown


class RowTable:
    """
    Ids and generations in the order of the rows, with a look-up by id.

    Attributes:
        ids (`NDArray[np.int64]` of shape `(n,)`): the items.
        generation (`NDArray[np.int16]` of shape `(n,)`): number of the encoder behind each item's vector.
    """

    def __init__(self) -> None:
        self.ids: Ids = np.empty(0, np.int64)
        self.generation = np.empty(0, np.int16)
        self._row: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def known(self, ids: Ids) -> np.ndarray:
        """Which of the ids are items here, as booleans."""
        return np.fromiter((item in self._row for item in ids.tolist()), bool, len(ids))

    def rows(self, ids: Ids) -> np.ndarray:
        """Rows of items; all must exist."""
        if not (known := self.known(ids)).all():
            raise ValueError(f"`ids` must be in the index; unknown: {shown(ids[~known])}")
        return np.fromiter((self._row[item] for item in ids.tolist()), np.int64, len(ids))

    def append(self, ids: Ids, generation: int) -> None:
        """New items at the end."""
        self._row.update(zip(ids.tolist(), range(len(self), len(self) + len(ids)), strict=True))
        self.ids = np.concatenate([self.ids, ids])
        self.generation = np.concatenate([self.generation, np.full(len(ids), generation, np.int16)])

    def delete(self, rows: np.ndarray) -> None:
        """Leave items out; those behind them move up."""
        self.ids, self.generation = np.delete(self.ids, rows), np.delete(self.generation, rows)
        self._row = dict(zip(self.ids.tolist(), range(len(self.ids)), strict=True))
