# SPDX-License-Identifier: Apache-2.0
"""A store with its stamp: opening, saving, and the checks of whose vectors go in."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock
from numpy.typing import ArrayLike

from eigenhub.files import naming
from eigenhub.models.bt2.index_backend import IndexBackend
from eigenhub.models.bt2.index_identity import EncoderIdentity, IdentityError, as_identity, check_identity
from eigenhub.models.bt2.index_lock import lock_for_writing
from eigenhub.models.bt2.index_stamp import STAMP_FILE, IndexStamp
from eigenhub.models.bt2.index_vectors import Ids, Vectors, checked_vectors, is_unit, shown


Identity = EncoderIdentity | Mapping[str, Any]
BACKENDS = ("faiss", "lancedb")


class IndexStore:
    """
    A backend, the stamp that says what is in it, and the lock of the one process that writes.

    Args:
        backend (`IndexBackend`): the store.
        stamp (`IndexStamp`): whose vectors it holds.
        folder (`Path`, *optional*): where it lies.
        lock (`BaseFileLock`, *optional*): held while this process may write.
    """

    def __init__(
        self, backend: IndexBackend, stamp: IndexStamp, folder: Path | None = None, lock: BaseFileLock | None = None
    ) -> None:
        self.backend, self.stamp, self.folder, self._lock = backend, stamp, folder, lock
        self._changes = threading.RLock()

    @classmethod
    def create(
        cls, folder: Path | None, stamp: IndexStamp, options: dict[str, Any], ids: Ids, vectors: Vectors
    ) -> "IndexStore":
        """A new store with its first content; until its stamp is there, nothing is."""
        kind = backend_class(stamp.backend)
        if unknown := set(options) - set(kind.options):
            allowed = ", ".join(kind.options) or "none"
            raise ValueError(f"options of the {kind.name} backend are {allowed}; got {sorted(unknown)[0]!r}")
        lock = None if folder is None else _begin(folder)
        try:
            backend = kind.open(folder, stamp.layout, options, read_only=False)
            backend.fill(ids, vectors)
            store = cls(backend, stamp, folder, lock)
            store.save(stamp)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return store

    @classmethod
    def open(cls, folder: Path, read_only: bool) -> "IndexStore":
        """The store of a folder."""
        IndexStamp.load(folder)  # says what is wrong before a lock file appears in a folder that is no index
        lock = None if read_only else lock_for_writing(folder)
        try:
            stamp = IndexStamp.load(folder)
            with naming(folder / STAMP_FILE):
                backend = backend_class(stamp.backend).open(folder, stamp.layout, stamp.state, read_only)
            if not read_only:
                backend.clean()
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return cls(backend, stamp, folder, lock)

    def change(self) -> threading.RLock:
        """To be held while something changes."""
        if self.folder is not None and self._lock is None:
            raise PermissionError(f"{self.folder} was opened with read_only=True")
        return self._changes

    def save(self, stamp: IndexStamp) -> None:
        """Put another stamp in force."""
        self.stamp = replace(stamp, state=self.backend.state)
        if self.folder is not None:
            self.stamp.save(self.folder)

    def lay_out(self, stamp: IndexStamp) -> None:
        """Put another stamp in force whose layout may be another one."""
        if stamp.layout != self.backend.layout:
            self.backend.relayout(stamp.layout)
        self.save(stamp)
        self.backend.clean()

    def refresh(self) -> None:
        """Take in what another process has written."""
        with self._changes:
            if self.folder is not None and (stamp := IndexStamp.load(self.folder)) != self.stamp:
                before = self.backend
                self.backend = backend_class(stamp.backend).open(
                    self.folder, stamp.layout, stamp.state, self._lock is None
                )
                self.stamp = stamp
                before.close()
            else:
                self.backend.refresh()

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Largest inner products and their items, of shape `(q, k)` or less where there are fewer items."""
        if not len(self.backend.rows):
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        try:
            return self.backend.search(queries, k)
        except Exception:
            if self._lock is not None or self.folder is None:
                raise
            self.refresh()  # the writing process may have replaced the files under this reader
            return self.backend.search(queries, k)

    def close(self) -> None:
        """Close the files and let other processes write."""
        with self._changes:
            self.backend.close()
            if self._lock is not None:
                self._lock.release()

    @property
    def newest(self) -> int:
        """Number of the newest encoder that was named, with or without vectors."""
        return len(self.stamp.generations) - 1

    def check_reader(self, identity: Identity, what: str) -> None:
        """Raise unless queries of an encoder may be compared with what is here."""
        given = as_identity(identity)
        if all(given.differences(encoder) for encoder in self.stamp.generations):
            check_identity(given, self.stamp.newest, what)

    def new_vectors(self, ids: Ids, vectors: ArrayLike, identity: Identity | None) -> Vectors:
        """Vectors that may enter as those of the newest encoder."""
        newest = self.stamp.newest
        if self.newest == 0:
            raise IdentityError(
                f"the index knows only {newest.name}: name the encoder of the new vectors by upgrade(identity)"
            )
        if identity is not None:
            check_identity(as_identity(identity), newest, "`vectors`")
        rows = checked_vectors(vectors, [newest.dim], ids)
        if not is_unit(rows):
            raise ValueError(
                f"`vectors` of {newest.name} must have unit norm: beside unit old vectors, longer ones win every search"
            )
        return rows

    def old_vectors(self, ids: Ids) -> Vectors:
        """The vectors of items from before the newest encoder, padded to the widest among them."""
        generation = self.backend.rows.generation[self.backend.rows.rows(ids)]
        source = np.where(generation == self.newest, self.backend.previous(ids), generation)
        if (source < 0).any():
            raise ValueError(f"`ids` must have an old vector; these have none: {shown(ids[source < 0])}")
        found = np.unique(source).tolist()
        old = np.zeros((len(ids), max((self.stamp.generations[g].dim for g in found), default=1)), np.float32)
        for number in found:
            old[source == number, : self.stamp.generations[number].dim] = self.backend.vectors(
                ids[source == number], number
            )
        return old

    def put_new(self, ids: Ids, vectors: Vectors) -> np.ndarray:
        """Write vectors of the newest encoder that are not there yet; returns which were written, as booleans."""
        if self.stamp.laid_out <= self.newest:  # the first of them: make room for their coordinates
            self.lay_out(replace(self.stamp, laid_out=self.newest + 1))
        missing = ~self.has_new(ids, vectors)
        if missing.any():
            self.backend.put(ids[missing], vectors[missing], self.newest)
        return missing

    def has_new(self, ids: Ids, vectors: Vectors) -> np.ndarray:
        """Which items have just these vectors of the newest encoder, as booleans."""
        there = self.backend.rows.known(ids)
        there[there] = self.backend.rows.generation[self.backend.rows.rows(ids[there])] == self.newest
        if there.any():
            there[there] = (self.backend.vectors(ids[there], self.newest) == vectors[there]).all(1)
        return there


def backend_class(name: str) -> type[IndexBackend]:
    """The backend of a name; its library is imported when a store is opened."""
    if name == "faiss":
        from eigenhub.models.bt2.index_faiss import FaissBackend

        return FaissBackend
    if name == "lancedb":
        from eigenhub.models.bt2.index_lancedb import LanceBackend

        return LanceBackend
    raise ValueError(f"`backend` must be one of {', '.join(BACKENDS)}; got {name!r}")


def _begin(folder: Path) -> BaseFileLock:
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_for_writing(folder)
    if (folder / STAMP_FILE).exists():
        lock.release()
        raise FileExistsError(f"{folder} holds an index already: open it, or choose another folder")
    return lock
