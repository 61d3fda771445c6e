# SPDX-License-Identifier: Apache-2.0
"""Docstrings in the house form as MyST: sections become definition lists, [`name`] becomes a link."""

import re
from collections.abc import Callable, Iterator


SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples|Reference|References): *$")
TITLES = {"Args": "Arguments", "Example": "Example", "Examples": "Examples"}
LISTED = ("Args", "Attributes", "Raises")
NAMED = re.compile(r"^(?P<name>[^(:]+?) \((?P<type>.+?)\): *(?P<text>.*)$", re.DOTALL)
PLAIN = re.compile(r"^(?P<name>[^\s:]+): *(?P<text>.*)$", re.DOTALL)
LINK = re.compile(r"\[`([^`\n]+)`\](?![(\[])")
FENCE = re.compile(r"^ *(```|~~~)")

Resolve = Callable[[str], str | None]


def to_myst(text: str, resolve: Resolve) -> str:
    """A docstring as MyST.

    Args:
        text (`str`): the docstring, without common indentation.
        resolve (`Callable`): full name on the site, or path in the repository, of what a [`name`] in it means; `None` if it
            is neither.

    Returns:
        `str`: Markdown with roles of Sphinx.
    """
    parts = [_section(title, body) if title else "\n".join(body) for title, body in _sections(text.splitlines())]
    return LINK.sub(lambda match: _link(match[1], resolve), "\n\n".join(part.strip("\n") for part in parts))


def _link(name: str, resolve: Resolve) -> str:
    full = name.removeprefix("~")
    short = full.rsplit(".", 1)[-1] if name.startswith("~") else full
    target = resolve(full)
    if target is None:
        return f"`{short}`"
    return f"[`{short}`](<{target}>)" if "/" in target else f"{{py:obj}}`{short} <{target}>`"


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Title (empty for running text) and lines of each part, in order; a listed part ends where indentation does."""
    title, body, fenced = "", [], False
    for line in lines:
        head = None if fenced else SECTION.match(line)
        ends = title in LISTED and line and not line.startswith(" ")
        if head or ends:
            yield title, body
            title, body = (head[1], []) if head else ("", [line])
        else:
            body.append(line)
        fenced ^= bool(FENCE.match(line))
    yield title, body


def _section(title: str, body: list[str]) -> str:
    heading = f"```{{rubric}} {TITLES.get(title, title)}\n```\n\n"
    lines = _dedent(body)
    if title in LISTED:
        return heading + "\n\n".join(_definition(item) for item in _items(lines))
    return heading + "\n".join(lines)


def _dedent(lines: list[str]) -> list[str]:
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    return [line[min(indents, default=0) :] for line in lines]


def _items(lines: list[str]) -> Iterator[list[str]]:
    item: list[str] = []
    for line in lines:
        if item and line and not line.startswith(" "):
            yield item
            item = []
        if item or line.strip():
            item.append(line)
    if item:
        yield item


def _definition(item: list[str]) -> str:
    """One argument as an entry of a definition list."""
    text = "\n".join([item[0], *_dedent(item[1:])])
    match = NAMED.match(text) or PLAIN.match(text)
    if match is None:
        raise ValueError(f"a docstring has an entry without a name: {text!r}")
    names = ", ".join(f"`{name.strip(' `')}`" for name in match["name"].split(","))
    kind = " ".join(match.groupdict().get("type", "").split())
    body = match["text"].replace("\n", "\n  ")
    return f"{names}{f' ({kind})' if kind else ''}\n: {body}"
