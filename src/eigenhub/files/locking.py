# SPDX-License-Identifier: Apache-2.0
"""One writing process per folder."""

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout


LOCK_FILE = ".lock"
#: Workers of a killed process hold its lock on until they notice, which takes PyTorch's five seconds.
PATIENCE = 10.0


def lock_folder(folder: str | Path, patience: float = PATIENCE) -> BaseFileLock:
    """Keep other processes from writing into a folder; this one may ask again.

    The lock is held until the object that is returned is gone or released, and the system frees it when the process ends,
    however it ends.

    Args:
        folder (`str` or `Path`): made if necessary.
        patience (`float`, *optional*, defaults to 10.0): seconds to wait for another process to end.

    Raises:
        BlockingIOError: another process holds the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, is_singleton=True, thread_local=False)
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise BlockingIOError(f"{folder} is being written to by another process: choose another folder") from error
    return lock
