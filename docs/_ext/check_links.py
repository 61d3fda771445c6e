# SPDX-License-Identifier: Apache-2.0
"""Every link inside of a built site: does the page exist, and the place on it? No network is asked.

python docs/_ext/check_links.py build/docs
"""

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


ADDRESSES = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src"}


class Page(HTMLParser):
    """The links of a page and the names that links may end in."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[tuple[str, int]] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for key, value in attrs if key == "id" or (key == "name" and tag == "a") if value}
        if (address := found.get(ADDRESSES.get(tag, ""))) is not None:
            self.links.append((address, self.getpos()[0]))


@cache
def page_at(path: Path) -> Page:
    return Page(path)


def broken_links(site: Path) -> Iterator[str]:
    """One line for every link that leads nowhere."""
    for path in sorted(site.rglob("*.html")):
        for address, line in page_at(path).links:
            if why := problem(address, path, site):
                yield f"{path.relative_to(site)}:{line}: {address}: {why}"


def problem(address: str, page: Path, site: Path) -> str | None:
    """What is wrong with a link, `None` for a good one and for one that leaves the site."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    target = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
    if target.is_dir():
        target = target / "index.html"
    if not target.is_relative_to(site.resolve()) and parts.path:
        return "leads out of the site"
    if not target.is_file():
        return "no such page"
    anchor = unquote(parts.fragment)
    if anchor and target.suffix == ".html" and anchor not in page_at(target.resolve()).anchors:
        return "no such place on the page"
    return None


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1], "index.html").is_file():
        print("usage: check_links.py FOLDER, with the index.html of a built site in it", file=sys.stderr)
        return 2
    site = Path(sys.argv[1]).resolve()
    found = list(broken_links(site))
    print("\n".join(found) or f"all links inside of {sys.argv[1]} lead somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
