# SPDX-License-Identifier: Apache-2.0
"""Fresh Python processes for tests: uninstalled-looking packages, no way off the loopback interface, clean endings."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).resolve().parent / "child"


@dataclass(frozen=True)
class Finished:
    """What a process left behind."""

    returncode: int
    stdout: str
    stderr: str
    cpu_seconds: float
    outside: list[str]

    @property
    def result(self) -> Any:
        """Value of the last line of stdout, read as JSON."""
        return json.loads(self.stdout.strip().splitlines()[-1])

    def __str__(self) -> str:
        return f"exit code {self.returncode}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def child_environment(
    environment: Mapping[str, str] | None = None, block: Sequence[str] = (), outside_log: Path | None = None
) -> dict[str, str]:
    """Environment of a child in which `block` cannot be imported; it reaches the child's own children too.

    Args:
        environment (`Mapping[str, str]`, *optional*):
            Environment to start from; defaults to that of this process.
        block (`Sequence[str]`, *optional*, defaults to `()`):
            Top-level packages that are to look uninstalled.
        outside_log (`Path`, *optional*):
            File for attempts to leave the loopback interface, which are refused. Without it nothing is guarded.
    """
    child = dict(os.environ if environment is None else environment)
    child.setdefault("OMP_NUM_THREADS", "1")
    child["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHILD), str(ROOT), child.get("PYTHONPATH")]))
    child["TEST_BLOCKED_PACKAGES"] = ",".join(block)
    if outside_log is not None:
        child["TEST_OUTSIDE_LOG"] = str(outside_log)
    return child


def launch(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> subprocess.Popen[str]:
    """Start a command without a terminal, so that a question on stdin fails instead of waiting for ever."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        command, env=dict(environment), cwd=folder, stdin=null, stdout=pipe, stderr=pipe, text=True
    )


def run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, check: bool = True, timeout: float = 240
) -> Finished:
    """Run a command to its end, or to its and its children's death after `timeout` seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = launch(command, environment, folder)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_tree(process)
        stdout, stderr = process.communicate()
        stderr += f"\nkilled after {timeout} seconds"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    log = Path(environment.get("TEST_OUTSIDE_LOG", os.devnull))
    outside = log.read_text().splitlines() if log.is_file() else []
    finished = Finished(process.returncode, stdout, stderr, cpu, outside)
    if check and finished.returncode:
        raise AssertionError(f"{' '.join(command)}\n{finished}")
    return finished


def run_python(
    code: str | Path,
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    block: Sequence[str] = (),
    check: bool = True,
    timeout: float = 240,
) -> Finished:
    """Run program text or a script in a fresh interpreter that cannot leave the loopback interface.

    Args:
        code (`str` or `Path`):
            Program text (kept as a file, so that `inspect.getsource` works on its classes) or the path of a script.
        arguments (`str`):
            Command-line arguments.
        folder (`Path`):
            Working directory, created if absent.
        environment (`Mapping[str, str]`, *optional*):
            Environment to start from; defaults to that of this process.
        block (`Sequence[str]`, *optional*, defaults to `()`):
            Packages that are to look uninstalled.
        check (`bool`, *optional*, defaults to `True`):
            Whether a non-zero exit code raises `AssertionError` with all that was printed.
        timeout (`float`, *optional*, defaults to 240):
            Seconds until the process and its children are killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        script = code if isinstance(code, Path) else Path(scratch) / "client.py"
        if isinstance(code, str):
            script.write_text(code)
        child = child_environment(environment, block, Path(scratch) / "outside.log")
        return run([sys.executable, str(script), *arguments], child, folder, check, timeout)


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """A process and all below it, itself first; empty once it has ended."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_tree(process: subprocess.Popen) -> None:
    """SIGKILL to a process and all below it; a process group is not enough, torchrun gives workers their own sessions."""
    for member in family(process):
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
