# SPDX-License-Identifier: Apache-2.0
"""What is checked of every Space beside `SpaceTester`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from urllib.request import urlopen

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


def check_command_opens_page(slug: str, headline: str) -> None:
    """`eigenhub space SLUG` answers in time, and before anything is trained.

    The time is that of the processor: what else the machine does at this moment is no property of the Space.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "eigenhub.cli", "space", slug, "--port", str(port)]
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.DEVNULL)
    try:
        while time.monotonic() - begin < 120:
            try:
                page = urlopen(f"http://127.0.0.1:{port}", timeout=10).read().decode()
                break
            except OSError:
                assert process.poll() is None, "the Space ended"
                time.sleep(0.2)
        else:
            raise AssertionError("no answer within two minutes")
        spent = [member.cpu_times() for member in family(process)]
        assert sum(times.user + times.system for times in spent) < OPENS_WITHIN
        assert headline in page
    finally:
        kill_tree(process)
        process.wait()


def slide(page: Page, place: str, value: float) -> None:
    """Drag the slider at a CSS place and let it go."""
    handle = page.locator(f"{place} input[type=range]")
    handle.fill(str(value))
    handle.dispatch_event("pointerup")
