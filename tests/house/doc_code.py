# SPDX-License-Identifier: Apache-2.0
"""Code blocks of Markdown pages, run as a reader would: one page after the other from top to bottom."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Finished, run_python


BLOCK = re.compile(
    r"^(?:<!-- doc-test: skip *(?P<reason>[^\n]*?) *-->\n+)?```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)

DRIVER = """\
import sys
page, blocks, names = {page!r}, {blocks!r}, {{"__name__": "__main__"}}
for line, code in blocks:
    # empty lines in front make tracebacks point at the line of the page
    exec(compile("\\n" * line + code, page, "exec"), names)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block: language, text, the line of its fence, and why it is not run (`None` if it is)."""

    language: str
    code: str
    line: int
    skip: str | None


def blocks_of(text: str) -> list[Block]:
    """All fenced blocks of a page."""
    return [
        Block(m["language"], m["code"], text.count("\n", 0, m.start("code")), m["reason"])
        for m in BLOCK.finditer(text)
    ]


def run_page(text: str, name: str, folder: Path) -> Finished:
    """Run the python blocks of a page in one fresh process without a network; compile those that are skipped."""
    python = [block for block in blocks_of(text) if block.language == "python"]
    for block in python:
        compile("\n" * block.line + block.code, name, "exec")
    runnable = [(block.line, block.code) for block in python if block.skip is None]
    return run_python(DRIVER.format(page=name, blocks=runnable), folder=folder, check=False)
