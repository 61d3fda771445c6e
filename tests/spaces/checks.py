# SPDX-License-Identifier: Apache-2.0
"""What is checked of every Space beside `SpaceTester`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import urlopen

import psutil
from gradio_client.utils import get_type_hints
from playwright.sync_api import Page

from tests.support.processes import ROOT, family, kill_tree


OPENS_WITHIN = 15  # seconds


def check_endpoints_are_described(demo, names: Iterable[str]) -> None:
    """The API page and MCP clients read types and docstrings."""
    public = [fn for fn in demo.fns.values() if fn.api_visibility == "public"]
    assert {fn.api_name for fn in public} == set(names)
    for fn in public:
        hints = get_type_hints(fn.fn)
        assert "return" in hints and "Args:" in fn.fn.__doc__ and "Returns:" in fn.fn.__doc__
        for name in hints.keys() - {"return", "progress"}:
            assert f"        {name}: " in fn.fn.__doc__, f"{fn.api_name} does not describe {name}"
        arguments = fn.fn.__doc__.partition("Args:\n")[2].partition("\n\n")[0]
        assert "\n            " not in arguments, f"{fn.api_name}: gradio reads one line for each argument"


@dataclass(frozen=True)
class Opened:
    """A Space that `eigenhub space` has opened.

    Args:
        url (`str`): its address.
        page (`str`): HTML that it answered first.
        seconds (`float`): until then.
        cpu_seconds (`float`): of the processor until then: what else the machine does is no property of the Space.
    """

    url: str
    page: str
    seconds: float
    cpu_seconds: float


@contextmanager
def opened_by_command(*slug: str) -> Iterator[Opened]:
    """`eigenhub space SLUG`, or without SLUG the gallery, for the length of a `with` block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "eigenhub.cli", "space", *slug, "--port", url.rpartition(":")[2]]
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.DEVNULL)
    try:
        while time.monotonic() - begin < 120:
            try:
                page = urlopen(url, timeout=10).read().decode()
                break
            except OSError:
                assert process.poll() is None, "the Space ended"
                time.sleep(0.2)
        else:
            raise AssertionError("no answer within two minutes")
        spent = [member.cpu_times() for member in family(process)]
        yield Opened(url, page, time.monotonic() - begin, sum(times.user + times.system for times in spent))
    finally:
        kill_tree(process)
        process.wait()


def check_command_opens_page(slug: str, headline: str) -> None:
    """`eigenhub space SLUG` answers in time, and before anything is trained."""
    with opened_by_command(*([slug] if slug else [])) as opened:
        assert opened.cpu_seconds < OPENS_WITHIN
        assert headline in opened.page


def serving(url: str) -> psutil.Process:
    """The process behind an address."""
    port = int(url.rstrip("/").rpartition(":")[2])
    for connection in psutil.net_connections("inet"):
        if connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return psutil.Process(connection.pid)
    raise AssertionError(f"nothing listens at {url}")


def slide(page: Page, place: str, value: float) -> None:
    """Drag the slider at a CSS place and let it go."""
    handle = page.locator(f"{place} input[type=range]")
    handle.fill(str(value))
    handle.dispatch_event("pointerup")
