# SPDX-License-Identifier: Apache-2.0
"""Copies of this process that do one piece of work and end."""

import os
from collections.abc import Callable


FAILED = 3


def started(work: Callable[[], object]) -> int:
    """Process number of a copy of this process that does the work and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(FAILED)
    return child


def in_fork(work: Callable[[], object]) -> int:
    """Exit status of such a copy: 0, `FAILED` after an exception, or minus a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(started(work), 0)[1])
