# SPDX-License-Identifier: Apache-2.0
"""The default store: a log of vectors on disk, and a FAISS index in memory that is made from it."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eigenhub.models.bt2.index_backend import IndexBackend, Layout
from eigenhub.models.bt2.index_faiss_search import FLAT, FaissSearch
from eigenhub.models.bt2.index_log import Kind, Record, VectorLog
from eigenhub.models.bt2.index_rows import RowTable
from eigenhub.models.bt2.index_vectors import CHUNK, Ids, Vectors, padded


logger = logging.getLogger(__name__)

TRAINING_ROWS = 1 << 17
RETRAIN_SHARE = 0.2
NOWHERE = -1
LOG_NAME = re.compile(r"vectors-\d+\.log")


class FaissBackend(IndexBackend):
    """
    Items in a [`VectorLog`], searched by a [`FaissSearch`].

    The log holds each vector once, as it was given; the index holds the newest one of each item, scaled and padded. So
    opening, changing the scale and retraining are all one thing: make the index anew from the log.
    """

    name = "faiss"
    options = ("factory", "parameters")

    def __init__(self, folder: Path | None, layout: Layout, state: dict[str, Any], read_only: bool) -> None:
        self.folder, self.layout, self._read_only = folder, layout, read_only
        self.state = {"factory": FLAT, "parameters": "", "log": "vectors-0.log"} | state
        for option in ("factory", "parameters", "log"):
            if not isinstance(self.state[option], str):
                raise ValueError(f"`{option}` in the stamp of {folder} must be text, got {self.state[option]!r}")
        if not LOG_NAME.fullmatch(self.state["log"]):  # it is opened for writing: no path out of the folder
            raise ValueError(f"`log` in the stamp of {folder} must be vectors-NUMBER.log, got {self.state['log']!r}")
        if "log" in state and self._log_path is not None and not self._log_path.exists():
            raise FileNotFoundError(f"{self._log_path}, which the stamp names, is missing")
        self._open_log(VectorLog(self._log_path, read_only))
        self._build()

    @classmethod
    def open(cls, folder: Path | None, layout: Layout, state: dict[str, Any], read_only: bool) -> "FaissBackend":
        return cls(folder, layout, state, read_only)

    @property
    def index(self) -> Any:
        """The `faiss.IndexIDMap2` that is searched; look, do not change."""
        return self._search.index

    def fill(self, ids: Ids, vectors: Vectors) -> None:
        self._open_log(VectorLog(self._log_path), keep=False)  # an attempt that was killed may have left some
        for begin in range(0, len(ids), CHUNK):
            part = slice(begin, begin + CHUNK)
            self._tabulate(self._log.append(Kind.PUT, ids[part], vectors[part], self.layout.newest))
        self._build()

    @property
    def retrain_due(self) -> bool:
        """Whether the index learned its centroids when far fewer vectors had the newest coordinates."""
        return self._search.trains and self._newest_share() - self._trained_at > RETRAIN_SHARE

    def put(self, ids: Ids, vectors: Vectors, generation: int) -> None:
        self._take_in(self._log.append(Kind.PUT, ids, vectors, generation), vectors)

    def previous(self, ids: Ids) -> np.ndarray:
        return self._previous(self.rows.rows(ids))

    def restore(self, ids: Ids) -> None:
        self._take_in(self._log.append(Kind.RESTORE, ids))

    def remove(self, ids: Ids) -> None:
        self._take_in(self._log.append(Kind.REMOVE, ids))

    def vectors(self, ids: Ids, generation: int) -> Vectors:
        return self._log.read(self._where[generation][self.rows.rows(ids)], self.layout.dims[generation])

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        return self._search.search(queries, k)

    def relayout(self, layout: Layout) -> None:
        before, self.layout = self.layout, layout
        try:
            self._build()
        except BaseException:  # out of memory: go on as before
            self.layout = before
            raise
        self._where += [np.full(len(self.rows), NOWHERE, np.int64) for _ in layout.dims[len(before.dims) :]]

    def retrain(self) -> None:
        """Make the index anew, which for an inverted file means new centroids."""
        self._build()

    def compact(self) -> None:
        number = int(re.sub(r"\D", "", self.state["log"])) + 1
        name = f"vectors-{number}.log"
        fresh = VectorLog(None if self.folder is None else self.folder / name)
        try:
            self._copy_newest(fresh)
        except BaseException:  # a full disk: go on with what there is
            fresh.close()
            raise
        self.state = self.state | {"log": name}
        self._log.close()
        self._open_log(fresh)
        self._build()

    def _copy_newest(self, fresh: VectorLog) -> None:
        fresh.drop_tail()  # an attempt that was killed may have left some
        for generation in range(len(self.layout.dims)):
            for rows in _split(np.flatnonzero(self.rows.generation == generation)):
                ids = self.rows.ids[rows]
                fresh.append(Kind.PUT, ids, self.vectors(ids, generation), generation)

    def clean(self) -> None:
        for path in self.folder.glob("vectors-*.log") if self.folder is not None else ():
            if path.name != self.state["log"]:
                path.unlink()

    def refresh(self) -> None:
        for record in self._log.replay():
            self._take_in(record)

    def disk_bytes(self) -> int:
        return self._log.end

    def close(self) -> None:
        self._log.close()

    @property
    def _log_path(self) -> Path | None:
        return None if self.folder is None else self.folder / self.state["log"]

    def _open_log(self, log: VectorLog, keep: bool = True) -> None:
        """Make the tables of rows from a log, or empty it."""
        self._log, self.rows = log, RowTable()
        self._where = [np.empty(0, np.int64) for _ in self.layout.dims]
        log.end = 0
        for record in log.replay() if keep else ():
            self._tabulate(record)
        if not self._read_only and (tail := log.drop_tail()) and keep:
            logger.warning("%s: dropped %d bytes of a write that was cut short", self.folder, tail)

    def _take_in(self, record: Record, vectors: Vectors | None = None) -> None:
        """Bring tables and index up to a record; `vectors` are those of a put, if they are at hand."""
        if record.kind == Kind.REMOVE:
            self._tabulate(record)
            self._search.remove(record.ids)
            return
        known = self.rows.known(record.ids)
        self._tabulate(record)
        rows = self.rows.rows(record.ids)
        if vectors is None:
            stood = self._standing(rows)
        else:
            stood = padded(vectors, self.layout.width, self.layout.scale(record.generation))
        if known.any():
            self._search.replace(rows[known], record.ids[known], stood[known])
        if not known.all():
            self._search.add(record.ids[~known], stood[~known])

    def _tabulate(self, record: Record) -> None:
        """Bring the tables of rows up to a record."""
        if record.kind == Kind.PUT:
            self._check_width(record)
            new = record.ids[~self.rows.known(record.ids)]
            self.rows.append(new, record.generation)
            unset = np.full(len(new), NOWHERE, np.int64)
            self._where = [np.concatenate([where, unset]) if len(new) else where for where in self._where]
        rows = self.rows.rows(record.ids)
        if record.kind == Kind.PUT:
            self._where[record.generation][rows] = record.starts
            self.rows.generation[rows] = record.generation
        elif record.kind == Kind.RESTORE:
            older = self._previous(rows)
            for generation in np.unique(self.rows.generation[rows]).tolist():
                self._where[generation][rows[self.rows.generation[rows] == generation]] = NOWHERE
            self.rows.generation[rows] = older
        else:
            self.rows.delete(rows)
            self._where = [np.delete(where, rows) for where in self._where]

    def _check_width(self, record: Record) -> None:
        dims = dict(enumerate(self.layout.dims))
        if dims.get(record.generation) != record.dim:
            raise ValueError(
                f"{self._log.path or 'the log'} has vectors of {record.dim} coordinates of encoder {record.generation}; the "
                f"stamp says {', '.join(map(str, dims.values()))}"
            )

    def _previous(self, rows: np.ndarray) -> np.ndarray:
        older = np.full(len(rows), -1, np.int16)
        for generation, where in enumerate(self._where):
            there = (where[rows] != NOWHERE) & (generation < self.rows.generation[rows])
            older[there] = generation
        return older

    def _standing(self, rows: np.ndarray) -> Vectors:
        """Vectors of rows as they stand in the index."""
        stood = np.empty((len(rows), self.layout.width), np.float32)
        for generation in np.unique(self.rows.generation[rows]).tolist():
            here = self.rows.generation[rows] == generation
            dim = self.layout.dims[generation]
            found = self._log.read(self._where[generation][rows[here]], dim)
            stood[here] = padded(found, self.layout.width, self.layout.scale(generation))
        return stood

    def _build(self) -> None:
        """A new index from the log; searches go on in the old one until it is there."""
        search = FaissSearch(self.layout.width, self.state["factory"], self.state["parameters"])
        everything = np.arange(len(self.rows))
        if search.trains and len(self.rows):
            search.train(self._standing(everything[:: -(-len(self.rows) // TRAINING_ROWS)]))
        for part in _split(everything):
            search.add(self.rows.ids[part], self._standing(part))
        self._search, self._trained_at = search, self._newest_share()

    def _newest_share(self) -> float:
        return float(np.mean(self.rows.generation == self.layout.newest)) if len(self.rows) else 0.0


def _split(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
