# SPDX-License-Identifier: Apache-2.0
"""A small gallery in two spaces, an index over it, and brute force beside it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eigenhub.models.bt2.index import CompatibleIndex
from eigenhub.models.bt2.index_identity import EncoderIdentity


BACKENDS = ("faiss", "lancedb")
OLD_DIM, NEW_DIM = 12, 20
OLD = EncoderIdentity("shop/v1", OLD_DIM, revision="a1")
NEW = EncoderIdentity("shop/v2", NEW_DIM, revision="b2", compatible_with=OLD)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Gallery:
    """Items with an old and a new vector each, and what a mixed index of them must answer."""

    size: int = 300
    seed: int = 0
    ids: np.ndarray = field(init=False)
    old: np.ndarray = field(init=False)
    new: np.ndarray = field(init=False)
    queries: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.ids = rng.permutation(10 * self.size)[: self.size].astype(np.int64)
        self.old = unit_rows(rng.normal(size=(self.size, OLD_DIM)))
        self.new = unit_rows(rng.normal(size=(self.size, NEW_DIM)))
        self.queries = unit_rows(rng.normal(size=(8, NEW_DIM)))

    def index(self, **arguments: Any) -> CompatibleIndex:
        return CompatibleIndex.from_old(self.old, self.ids, OLD, **({"new_identity": NEW} | arguments))

    def encode(self, ids: np.ndarray) -> np.ndarray:
        """New vectors by id, as a backfill job computes them."""
        place = {item: row for row, item in enumerate(self.ids.tolist())}
        return self.new[[place[item] for item in ids.tolist()]]

    def mixed(self, backfilled: np.ndarray, old_scale: float = 1.0) -> np.ndarray:
        rows = np.zeros((self.size, NEW_DIM), np.float32)
        rows[:, :OLD_DIM] = np.float32(old_scale) * self.old
        rows[backfilled] = self.new[backfilled]
        return rows

    def mask(self, ids: np.ndarray) -> np.ndarray:
        return np.isin(self.ids, ids)

    def assert_answers(
        self, index: CompatibleIndex, backfilled: np.ndarray, old_scale: float = 1.0, there: np.ndarray | None = None
    ) -> None:
        """The index answers like brute force over the items that are `there`, `backfilled` of them in the new space."""
        scores = self.queries @ self.mixed(backfilled, old_scale).T
        if there is not None:
            scores[:, ~there] = -np.inf
        best = np.argsort(-scores, axis=1)[:, :10]
        found = index.search(self.queries, k=10)
        np.testing.assert_array_equal(found.ids, self.ids[best])
        np.testing.assert_allclose(found.scores, np.take_along_axis(scores, best, 1), atol=1e-5)


def none_of(gallery: Gallery) -> np.ndarray:
    return np.zeros(gallery.size, bool)


def stored(index: CompatibleIndex) -> dict[int, bytes]:
    """Every item's vector as it stands in the index, byte for byte."""
    backend: Any = index.store.backend
    ids = index.ids
    if backend.name == "faiss":
        return {item: backend.index.reconstruct(item).tobytes() for item in ids.tolist()}
    table = backend._table.to_arrow()
    return {row["id"]: np.array(row["vector"], np.float32).tobytes() for row in table.to_pylist()}


def folder_of(tmp_path: Path, backend: str) -> Path:
    return tmp_path / f"index-{backend}"
