# SPDX-License-Identifier: Apache-2.0
"""The store on disk: a LanceDB table that is searched where it lies, and that LanceDB's own tools can read."""

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from eigenhub.models.bt2.index_backend import IndexBackend, Layout
from eigenhub.models.bt2.index_rows import RowTable
from eigenhub.models.bt2.index_vectors import CHUNK, Ids, Vectors, padded
from eigenhub.models.bt2.search_extra import require


#: LanceDB's advice: tidy up after some twenty changes; here that costs more than it gains until there are more.
CHANGES_PER_TIDY = 64
KEEP_VERSIONS = timedelta(minutes=10)  # for other processes that search
LONGEST_SEARCH = timedelta(seconds=10)
IDS_PER_QUERY = 4096


class LanceBackend(IndexBackend):
    """
    One table per layout, with the columns `id`, `generation` and `vector`.

    The current table holds each item's newest vector, scaled and padded. The table in which a generation was the newest
    stays as it was when the next one came, and rollback reads its old vectors there. Each change is one commit of
    LanceDB, so a killed process leaves either all of it or nothing.
    """

    name = "lancedb"
    options = ()

    def __init__(self, folder: Path | None, layout: Layout, state: dict[str, Any], read_only: bool) -> None:
        if folder is None:
            raise ValueError("`folder` must be given: the LanceDB backend lives on the disk")
        self.layout, self._place = layout, folder / "tables"
        self._db: Any = require("lancedb", "the LanceDB backend of CompatibleIndex").connect(self._place)
        #: `tables[g]` is the table in which generation g is, or was, the newest.
        self.state = {"tables": ["vectors-0"]} | state
        names = self.state["tables"]
        if not isinstance(names, list) or not all(re.fullmatch(r"vectors-\d+", str(name)) for name in names):
            raise ValueError(f"`tables` in the stamp of {folder} must be names like vectors-0, got {names!r}")
        if len(names) != len(layout.dims):
            raise ValueError(f"`tables` in the stamp of {folder} must be {len(layout.dims)}, got {len(names)}")
        self._changes = 0
        self.rows = RowTable()
        if self._current in self._table_names():
            self._open_table()
        elif state:
            raise FileNotFoundError(f"{self._place} lacks the table {self._current} that the stamp names")

    @classmethod
    def open(cls, folder: Path | None, layout: Layout, state: dict[str, Any], read_only: bool) -> "LanceBackend":
        return cls(folder, layout, state, read_only)

    def fill(self, ids: Ids, vectors: Vectors) -> None:
        def batches() -> Iterator[pa.RecordBatch]:
            for begin in range(0, len(ids), CHUNK):
                part = slice(begin, begin + CHUNK)
                yield _batch(ids[part], vectors[part], np.full(len(ids[part]), self.layout.newest, np.int16))

        self._create(self._current, vectors.shape[1], batches())
        self._open_table()

    def retrain(self) -> None:
        """Nothing is learned: the table is searched exactly."""

    def put(self, ids: Ids, vectors: Vectors, generation: int) -> None:
        stood = padded(vectors, self.layout.width, self.layout.scale(generation))
        self._upsert(ids, stood, np.full(len(ids), generation, np.int16))
        self.rows.append(ids[~self.rows.known(ids)], generation)
        self.rows.generation[self.rows.rows(ids)] = generation

    def previous(self, ids: Ids) -> np.ndarray:
        current = self.rows.generation[self.rows.rows(ids)]
        before = np.full(len(ids), -1, np.int16)
        for generation in np.unique(current[current > 0]).tolist():
            here = current == generation
            before[here] = self._generations_in(self.state["tables"][generation - 1], ids[here])
        return before

    def restore(self, ids: Ids) -> None:
        generations = self.previous(ids)
        stood = np.empty((len(ids), self.layout.width), np.float32)
        for generation in np.unique(generations).tolist():
            here = generations == generation
            old = self.vectors(ids[here], generation)
            stood[here] = padded(old, self.layout.width, self.layout.scale(generation))
        self._upsert(ids, stood, generations)
        self.rows.generation[self.rows.rows(ids)] = generations

    def remove(self, ids: Ids) -> None:
        for name in reversed(self.state["tables"]):  # the current one first: what is not searched is gone
            table = self._db.open_table(name) if name != self._current else self._table
            for part in _parts(ids, IDS_PER_QUERY):
                table.delete(_among(part))
        self.rows.delete(self.rows.rows(ids))
        self._tidy()

    def vectors(self, ids: Ids, generation: int) -> Vectors:
        found = np.empty((len(ids), self.layout.dims[generation]), np.float32)
        table = self._db.open_table(self.state["tables"][generation])
        for begin in range(0, len(ids), IDS_PER_QUERY):
            part = ids[begin : begin + IDS_PER_QUERY]
            rows = _select(table, _among(part), ["id", "vector"])
            order = _positions(part, rows["id"].to_numpy())
            found[begin + order] = _matrix(rows["vector"])
        return found

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        while True:
            table = self._table
            try:
                found = _search(table, queries, k)
            except Exception:
                if table is self._table:
                    raise
                continue
            # else it was laid out anew and this one dropped under the search, where it may have seemed empty
            if table is self._table:
                return found

    def relayout(self, layout: Layout) -> None:
        name = self._fresh_name()
        self._create(name, layout.width, self._laid_out(layout))
        kept = self.state["tables"] if layout.newest > self.layout.newest else self.state["tables"][:-1]
        self.state, self.layout = self.state | {"tables": [*kept, name]}, layout
        self._open_table()

    def compact(self) -> None:
        tables = []
        for generation in range(self.layout.newest):
            name = self._fresh_name()
            self._create(name, self.layout.dims[generation], self._originals(generation))
            tables.append(name)
        self.state = self.state | {"tables": [*tables, self._current]}
        self._table.optimize(cleanup_older_than=LONGEST_SEARCH)

    def clean(self) -> None:
        for name in set(self._table_names()) - set(self.state["tables"]):
            self._db.drop_table(name)

    def refresh(self) -> None:
        self._open_table()

    def disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._place.rglob("*") if path.is_file())

    def close(self) -> None:
        """Nothing is held open between calls."""

    @property
    def _current(self) -> str:
        return self.state["tables"][-1]

    def _table_names(self) -> list[str]:
        return list(self._db.list_tables().tables)

    def _fresh_name(self) -> str:
        return f"vectors-{1 + max(int(re.sub(r'[^0-9]', '', name)) for name in self._table_names())}"

    def _create(self, name: str, width: int, batches: Iterable[pa.RecordBatch]) -> None:
        killed_before = (self._place / f"{name}.lance").exists()
        self._db.create_table(
            name,
            pa.RecordBatchReader.from_batches(_schema(width), batches),
            mode="overwrite" if killed_before else "create",
        )

    def _open_table(self) -> None:
        self._table = self._db.open_table(self._current)
        width = self._table.schema.field("vector").type.list_size
        if width != self.layout.width:
            raise ValueError(
                f"{self._place}: the table {self._current} has vectors of {width} coordinates, the stamp says {self.layout.width}"
            )
        found = _select(self._table, None, ["id", "generation"])
        self.rows = RowTable()
        self.rows.append(found["id"].to_numpy(), 0)
        self.rows.generation[:] = found["generation"].to_numpy()

    def _upsert(self, ids: Ids, stood: Vectors, generations: np.ndarray) -> None:
        change = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        change.execute(pa.Table.from_batches([_batch(ids, stood, generations)]))
        self._tidy()

    def _tidy(self) -> None:
        """Merge the small files of many changes now and then, and drop what no running search can still need."""
        self._changes += 1
        if self._changes % CHANGES_PER_TIDY == 0:
            self._table.optimize(cleanup_older_than=KEEP_VERSIONS)

    def _generations_in(self, name: str, ids: Ids) -> np.ndarray:
        """Generation of each item in a table, -1 where it has none."""
        generations = np.full(len(ids), -1, np.int16)
        table = self._db.open_table(name)
        for begin in range(0, len(ids), IDS_PER_QUERY):
            part = ids[begin : begin + IDS_PER_QUERY]
            rows = _select(table, _among(part), ["id", "generation"])
            generations[begin + _positions(part, rows["id"].to_numpy())] = rows["generation"].to_numpy()
        return generations

    def _originals(self, generation: int) -> Iterator[pa.RecordBatch]:
        """The vectors of the items that are of a generation now, as they were put."""
        table = self._db.open_table(self.state["tables"][generation])
        current = self.rows.ids[self.rows.generation == generation]
        query = table.search().where(f"generation = {generation}").select(["id", "vector"])
        for batch in query.to_batches():
            ids = batch["id"].to_numpy()
            here = np.isin(ids, current)
            vectors = _matrix(batch["vector"])[here]
            yield _batch(ids[here], vectors, np.full(len(vectors), generation, np.int16))

    def _laid_out(self, layout: Layout) -> Iterator[pa.RecordBatch]:
        for generation in range(len(self.layout.dims)):
            for batch in self._originals(generation):
                stood = padded(_matrix(batch["vector"]), layout.width, layout.scale(generation))
                yield _batch(batch["id"].to_numpy(), stood, batch["generation"].to_numpy())


def _search(table: Any, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
    width = table.schema.field("vector").type.list_size
    rows = padded(queries[:, :width], width)
    k = min(k, table.count_rows())
    found = table.search(rows).distance_type("dot").limit(k).select(["id", "_distance"]).to_arrow()
    # query by query, nearest first; LanceDB's dot distance is 1 - q.v
    scores = 1 - found["_distance"].to_numpy().astype(np.float32).reshape(len(rows), k)
    return scores, found["id"].to_numpy().reshape(len(rows), k)


def _schema(width: int) -> pa.Schema:
    vector = pa.list_(pa.float32(), width)
    return pa.schema([("id", pa.int64()), ("generation", pa.int16()), ("vector", vector)])


def _batch(ids: Ids, vectors: Vectors, generations: np.ndarray) -> pa.RecordBatch:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1])
    columns = [pa.array(ids, pa.int64()), pa.array(generations, pa.int16()), rows]
    return pa.RecordBatch.from_arrays(columns, schema=_schema(vectors.shape[1]))


def _select(table: Any, where: str | None, columns: list[str]) -> pa.Table:
    query = table.search().select(columns)
    return (query if where is None else query.where(where)).to_arrow()


def _among(ids: Ids) -> str:
    return f"id IN ({', '.join(map(str, ids.tolist()))})"


def _positions(ids: Ids, found: Ids) -> np.ndarray:
    """Where each found id stands among the distinct `ids`."""
    order = np.argsort(ids)
    return order[np.searchsorted(ids, found, sorter=order)]


def _matrix(column: pa.ChunkedArray | pa.Array) -> Vectors:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.flatten().to_numpy().reshape(len(array), array.type.list_size)


def _parts(ids: Ids, size: int) -> Iterator[Ids]:
    for begin in range(0, len(ids), size):
        yield ids[begin : begin + size]
