# SPDX-License-Identifier: Apache-2.0
"""A crash in the middle of a run: SIGKILL to a process and its workers once it has come far enough."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.processes import family, kill_tree


def kill_after(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    progress: Callable[[], int],
    soon: int,
    due: int,
    timeout: float = 240,
) -> bool:
    """Start a command and kill it, with all its workers, as soon as `progress()` has reached `due`.

    Looking for workers takes about as long as a step of a tiny model, so they are looked for until `progress()` has
    reached `soon`; from there on nothing stands between seeing `due` and killing.

    Args:
        command (`Sequence[str]`):
            Program and arguments.
        environment (`Mapping[str, str]`):
            Its environment.
        folder (`Path`):
            Its working directory; what it prints goes to `killed.log` there.
        progress (`Callable[[], int]`):
            How far the run has come.
        soon (`int`):
            Progress at which all workers are known to exist.
        due (`int`):
            Progress at which to kill.
        timeout (`float`, *optional*, defaults to 240):
            Seconds until the command counts as stuck.

    Returns:
        `bool`: whether it was killed in mid-run; `False` if it ended before by itself.
    """
    deadline = time.monotonic() + timeout
    with (folder / "killed.log").open("w") as log:
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, env=dict(environment), cwd=folder, stdin=null, stdout=log, stderr=log)
    try:
        members = family(process)
        while (steps := progress()) < due and process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"stuck at {steps} of {due} steps:\n{(folder / 'killed.log').read_text()}")
            if steps < soon:
                members = family(process)
            time.sleep(0.002 if steps >= soon else 0.02)
        ended = process.poll() is not None
        for member in members if not ended else []:
            try:
                os.kill(member.pid, signal.SIGKILL)
            except ProcessLookupError:
                ended = True
    finally:
        kill_tree(process)
        process.wait()
    return not ended
