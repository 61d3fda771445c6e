# SPDX-License-Identifier: Apache-2.0
"""The Spaces of the methods on this machine: processes of their own, because their modules have equal names."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO
from urllib.request import urlopen

from eigenhub.hub.resources import find
from eigenhub.methods import get_method


PATIENCE = 120  # seconds until a Space that does not answer is given up
PAUSE = 0.25
END = 10  # seconds in which a Space that is told to end does so


class StartError(RuntimeError):
    """A Space did not start; the message says why."""


@dataclass
class App:
    """
    One running Space.

    Args:
        process (`Popen`): its process, which ends when its standard input closes: with the gallery, however that ends.
        port (`int`): where it answers.
        log (`IO[bytes]`): what it prints.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    log: IO[bytes]

    @property
    def is_alive(self) -> bool:
        """Whether its process goes on."""
        return self.process.poll() is None

    @property
    def answers(self) -> bool:
        """Whether its page can be read."""
        try:
            with urlopen(f"http://{own_host()}:{self.port}/", timeout=5) as page:
                return page.status == 200
        except OSError:
            return False

    def opening(self) -> Iterator[float]:
        """
        Seconds waited so far, again and again until it answers.

        Raises:
            StartError: it ended, or did not answer in time.
        """
        begin = time.monotonic()
        while not self.answers:
            waited = time.monotonic() - begin
            if not self.is_alive:
                raise StartError(self.last_line())
            if waited > PATIENCE:
                raise StartError(f"no answer within {PATIENCE} seconds")
            yield waited
            time.sleep(PAUSE)

    def last_line(self) -> str:
        """Of what it has printed: of a traceback, the error."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.poll()}"

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Apps:
    """The Spaces that run, by slug; each is started once and used again."""

    def __init__(self) -> None:
        self._apps: dict[str, App] = {}
        self._lock = threading.Lock()

    def get(self, slug: str) -> App:
        """
        The running Space of a method, started if there is none; it may not answer yet.

        Args:
            slug (`str`): the method.
        """
        with self._lock:
            app = self._apps.get(slug)
            if app is None or not app.is_alive:
                app = self._apps[slug] = start(slug)
            return app

    def stop(self, slug: str) -> None:
        """
        End the Space of a method, if it runs.

        Args:
            slug (`str`): the method.
        """
        with self._lock:
            app = self._apps.pop(slug, None)
        if app is not None:
            app.stop()


def start(slug: str) -> App:
    """Start the Space of a method, as `eigenhub space SLUG` does, on a free port."""
    program, port = find(get_method(slug).space) / "app.py", free_port()
    log = tempfile.TemporaryFile("a+b")  # appended to by the Space, wherever this process reads
    command = [sys.executable, str(program), "--port", str(port), "--until-closed"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
    return App(process, port, log)


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server((own_host(), 0)) as server:
        return server.getsockname()[1]


def own_host() -> str:
    """Where this machine reaches its own Spaces; they inherit the variable."""
    name = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    return "127.0.0.1" if name == "0.0.0.0" else name
