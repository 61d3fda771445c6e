# SPDX-License-Identifier: Apache-2.0
"""An append-only file of vectors: what a store holds, in the order in which it came to hold it.

A record is a header of 24 bytes, `count` ids of 8 bytes, and for a put `count * dim` float32 values. Each carries a
checksum, so that the half-written record of a killed process is told apart and dropped, and its header one of its own, so
that a damaged length does not pass for such a record.
"""

import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from eigenhub.models.bt2.index_vectors import Ids, Vectors


#: magic, kind, generation, dim, count, checksum of these and the content, checksum of all before (0 in older files)
HEADER = struct.Struct("<4sHHIIII")
CHECKED = HEADER.size - 4
MAGIC = b"EHv1"


class Kind(IntEnum):
    """What a record does: put vectors of one generation, go back to older ones, or remove items."""

    PUT = 1
    RESTORE = 2
    REMOVE = 3


@dataclass(frozen=True)
class Record:
    """
    One change of a store.

    Args:
        kind (`Kind`): what was done.
        generation (`int`): encoder behind the vectors of a put, otherwise 0.
        ids (`NDArray[np.int64]` of shape `(count,)`): items it was done to.
        dim (`int`): width of the vectors, 0 if there are none.
        start (`int`): where the vectors begin, counted in float32 values.
    """

    kind: Kind
    generation: int
    ids: Ids
    dim: int
    start: int

    @property
    def starts(self) -> np.ndarray:
        """Where the vector of each item begins."""
        return self.start + self.dim * np.arange(len(self.ids), dtype=np.int64)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return HEADER.size + len(self.ids) * (8 + 4 * self.dim)


class VectorLog:
    """
    The file, open for reading and, unless told otherwise, for appending.

    Args:
        path (`Path`, *optional*): the file, created if absent; without it a temporary one that is gone afterwards.
        read_only (`bool`, *optional*, defaults to `False`): whether only to read.
    """

    def __init__(self, path: Path | None = None, read_only: bool = False) -> None:
        self.path = path
        self._file = _open(path, read_only)
        self._durable = path is not None and not read_only
        self._values = np.empty(0, np.float32)
        self.end = 0  # of the last whole record

    def append(self, kind: Kind, ids: Ids, vectors: Vectors | None = None, generation: int = 0) -> Record:
        """
        Write one record and wait until it is on the disk.

        Args:
            kind (`Kind`): what is done.
            ids (`NDArray[np.int64]` of shape `(b,)`): to which items.
            vectors (`NDArray[np.float32]` of shape `(b, d)`, *optional*): vectors of a put.
            generation (`int`, *optional*, defaults to 0): encoder behind the vectors.
        """
        dim = 0 if vectors is None else vectors.shape[1]
        payload = [ids.tobytes(), b"" if vectors is None else np.ascontiguousarray(vectors).data.cast("B")]
        header = _header(kind, generation, dim, len(ids), _checksum(kind, generation, dim, payload))
        begin = self.end
        try:
            self._file.seek(begin)
            for part in (header, *payload):
                self._write(part)
            if self._durable:
                os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(begin)  # a full disk must not leave half a record in the middle
            raise
        self.end = begin + HEADER.size + sum(len(part) for part in payload)
        return Record(kind, generation, ids, dim, _values_start(begin, len(ids)))

    def _write(self, part: bytes | memoryview) -> None:
        view = memoryview(part)
        while len(view):
            view = view[self._file.write(view) :]

    def replay(self) -> Iterator[Record]:
        """The whole records behind `end`; moves `end` on. What a killed process left half-written ends the replay."""
        size = os.fstat(self._file.fileno()).st_size
        while (record := self._record_at(self.end, size)) is not None:
            self.end += record.size
            yield record

    def drop_tail(self) -> int:
        """Cut off what lies behind the last whole record; returns the number of bytes."""
        tail = os.fstat(self._file.fileno()).st_size - self.end
        if tail:
            self._file.truncate(self.end)
        return tail

    def read(self, starts: np.ndarray, dim: int) -> Vectors:
        """
        Vectors as they were put, bit for bit.

        Args:
            starts (`NDArray[np.int64]` of shape `(b,)`): where they begin, from [`Record.starts`].
            dim (`int`): their width.
        """
        if not len(starts):
            return np.empty((0, dim), np.float32)
        if len(self._values) * 4 < self.end:
            self._values = np.memmap(self._file, np.float32, "r", shape=(self.end // 4,))
        return np.lib.stride_tricks.sliding_window_view(self._values, dim)[starts]

    def close(self) -> None:
        """Close the file."""
        self._values = np.empty(0, np.float32)
        self._file.close()

    def _record_at(self, offset: int, size: int) -> Record | None:
        header = self._bytes(offset, HEADER.size)
        if len(header) < HEADER.size:
            return None
        magic, kind, generation, dim, count, checksum, of_header = HEADER.unpack(header)
        if magic == MAGIC and of_header and of_header != zlib.crc32(header[:CHECKED]):
            self._check_torn(offset, damaged=True)
        length = HEADER.size + count * (8 + 4 * dim)
        if magic != MAGIC or offset + length > size:
            self._check_torn(offset, damaged=bool(magic.strip(b"\0")) and magic != MAGIC)
            return None
        payload = [self._bytes(offset + HEADER.size, 8 * count)]
        payload.append(self._bytes(offset + HEADER.size + 8 * count, 4 * count * dim))
        if _checksum(kind, generation, dim, payload) != checksum:
            self._check_torn(offset, damaged=offset + length < size)
            return None
        ids = np.frombuffer(payload[0], np.int64)
        return Record(Kind(kind), generation, ids, dim, _values_start(offset, count))

    def _check_torn(self, offset: int, damaged: bool) -> None:
        """Half a record at the end is what a killed process leaves; anything else is damage that nobody may cut off."""
        if damaged:
            raise OSError(f"{self.path} is damaged at byte {offset}: restore it from a copy")

    def _bytes(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        parts = []
        while count and (part := self._file.read(count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _open(path: Path | None, read_only: bool) -> Any:
    if path is None:
        return tempfile.TemporaryFile(buffering=0)
    mode = "rb" if read_only else ("r+b" if path.exists() else "w+b")
    return open(path, mode, buffering=0)


def _values_start(record: int, count: int) -> int:
    return (record + HEADER.size + 8 * count) // 4


def _header(kind: int, generation: int, dim: int, count: int, checksum: int) -> bytes:
    header = HEADER.pack(MAGIC, kind, generation, dim, count, checksum, 0)
    return header[:CHECKED] + struct.pack("<I", zlib.crc32(header[:CHECKED]))


def _checksum(kind: int, generation: int, dim: int, payload: list) -> int:
    checksum = zlib.crc32(struct.pack("<HHI", kind, generation, dim))
    for part in payload:
        checksum = zlib.crc32(part, checksum)
    return checksum
