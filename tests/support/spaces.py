# SPDX-License-Identifier: Apache-2.0
"""A Space served from its folder in a process of its own, with the stand-in as its Hub."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.hub_server import HubServer, client_environment
from tests.support.processes import CHILD, child_environment, kill_tree


@dataclass
class RunningSpace:
    """A served Space.

    Args:
        report (`dict`):
            What its import gave: `demo`, `builds`, `launched`, `outside`, `cpu_seconds`, and `hub_requests`.
        url (`str`, *optional*):
            Address of the app; `None` where there was no `demo` to launch.
        log (`Path`):
            File of refused attempts to leave the loopback interface.
        errors (`Path`):
            File with the stderr of the app.
    """

    report: dict[str, Any]
    url: str | None
    log: Path
    errors: Path

    @property
    def outside(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.is_file() else []


@dataclass
class SpaceProcess:
    """The process behind a Space and its line-wise protocol (see `child/space.py`)."""

    folder: Path
    app_file: str
    environment: Mapping[str, str]
    scratch: Path
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        command = [sys.executable, str(CHILD / "space.py"), str(self.folder), self.app_file]
        pipe = subprocess.PIPE
        with (self.scratch / "stderr.txt").open("w") as errors:
            self.process = subprocess.Popen(
                command, env=dict(self.environment), stdin=pipe, stdout=pipe, stderr=errors, text=True
            )

    def message(self, expected: str) -> dict[str, Any] | None:
        """Next line of JSON that holds the key `expected`; `None` once the process has ended well."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{") and expected in line:
                return json.loads(line)
        if self.process.wait():
            raise AssertionError(f"{self.folder / self.app_file} failed:\n{(self.scratch / 'stderr.txt').read_text()}")
        return None

    def stop(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            kill_tree(self.process)
            self.process.wait()
        self.process.stdout.close()


@contextmanager
def running_space(
    folder: Path, server: HubServer, scratch: Path, app_file: str = "app.py", environment: Mapping[str, str] = {}
) -> Iterator[RunningSpace]:
    """Import and serve a Space for the length of a `with` block.

    Args:
        folder (`Path`):
            Folder of the Space; it is the working directory of the app.
        server (`HubServer`):
            Stand-in that the Space takes for the Hub.
        scratch (`Path`):
            Folder for caches and logs.
        app_file (`str`, *optional*, defaults to `"app.py"`):
            File that builds `demo`.
        environment (`Mapping[str, str]`, *optional*, defaults to `{}`):
            Variables on top, such as a switch to a tiny model.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(scratch / "gradio"), "MPLBACKEND": "Agg"}
    base = client_environment(server, scratch, offline=False) | quiet | dict(environment)
    log = scratch / "outside.log"
    child = SpaceProcess(folder, app_file, child_environment(base, outside_log=log), scratch)
    asked_before = len(server.requests)
    child.start()
    try:
        report = child.message("builds")
        assert report is not None, f"{app_file} ended while it was imported"
        report["hub_requests"] = server.requests[asked_before:]
        address = child.message("url")
        yield RunningSpace(report, address["url"] if address else None, log, scratch / "stderr.txt")
    finally:
        child.stop()
