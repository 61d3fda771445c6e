# SPDX-License-Identifier: Apache-2.0
"""A page of headless Chromium that notes what goes wrong on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.support.devices import CHROMIUM


if TYPE_CHECKING:
    from playwright.sync_api import Page

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
FLAGS = (
    "--no-sandbox",  # needed as root
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass
class Visit:
    """What happened while a page was open."""

    page: "Page"
    page_errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    requests: int = 0

    def note_request(self, url: str) -> None:
        self.requests += 1
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            self.outside.append(url)

    def assert_clean(self) -> None:
        """No uncaught error of the page's code, and no request off the loopback interface."""
        assert not self.page_errors, f"errors on the page: {self.page_errors}"
        assert not self.outside, f"requests off the loopback interface: {self.outside}"


@contextmanager
def visit(url: str, viewport: dict[str, int], timeout: float = 30) -> Iterator[Visit]:
    """Open `url` in a fresh headless browser for the length of a `with` block.

    Args:
        url (`str`):
            Address to open.
        viewport (`dict[str, int]`):
            `width` and `height` in pixels, such as `DESKTOP` or `PHONE`.
        timeout (`float`, *optional*, defaults to 30):
            Seconds that playwright waits for anything.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=timeout * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), headless=True)
        page = browser.new_page(viewport=viewport)
        page.set_default_timeout(timeout * 1000)
        seen = Visit(page)
        page.on("request", lambda request: seen.note_request(request.url))
        page.on("websocket", lambda socket: seen.note_request(socket.url))
        page.on("pageerror", lambda error: seen.page_errors.append(str(error)))
        page.goto(url)
        yield seen
        browser.close()
