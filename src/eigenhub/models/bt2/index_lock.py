# SPDX-License-Identifier: Apache-2.0
"""Many searches or one change at a time, and one writing process per store."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class SharedLock:
    """
    A lock that many readers share and one writer has alone.

    A waiting writer goes before new readers, or a busy search service would starve a backfill. Changes of an index
    take well under a millisecond, so readers hardly notice.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._waiting = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with other readers."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writing and not self._waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._writing and not self._readers)
            finally:
                self._waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


def lock_for_writing(folder: Path) -> FileLock:
    """
    Keep other processes from writing to a store; the system frees the lock when this process ends, however it ends.

    Args:
        folder (`Path`): folder of the store.
    """
    lock = FileLock(folder / "lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BlockingIOError(
            f"{folder} is open for writing elsewhere; open it with read_only=True to search only"
        ) from error
    return lock
