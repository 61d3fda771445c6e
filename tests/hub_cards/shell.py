# SPDX-License-Identifier: Apache-2.0
"""Bash blocks of a page, checked without running them: programs, sub-commands, flags, files and extras that exist."""

import re
import shlex
import tomllib
from collections.abc import Iterator

import click
import typer

from eigenhub.cli import app
from tests.house.doc_code import blocks_of
from tests.house.sources import ROOT


#: Arguments after these go to a script, which parses them itself.
FREE = {"demo", "train", "space", "export"}
PROGRAMS = {"eigenhub", "hf", "make", "pip", "python"}


def shell_problems(text: str) -> list[str]:
    """One sentence for everything in the bash blocks that a reader could not run.

    Args:
        text (`str`): the page.
    """
    return [problem for line in _lines(text) for problem in _problems(shlex.split(line, comments=True))]


def _lines(text: str) -> Iterator[str]:
    for block in blocks_of(text):
        if block.language == "bash":
            yield from filter(str.strip, block.code.replace("\\\n", " ").splitlines())


def _problems(words: list[str]) -> Iterator[str]:
    if not words:
        return
    program, *arguments = words
    if program not in PROGRAMS:
        yield f"{program} is no program that a reader has"
    if program == "pip":
        yield from _extras(arguments)
    if program == "eigenhub":
        yield from _command(arguments)
    for word in arguments:
        if word.startswith(("scripts/", "benchmarks/")) and not (ROOT / word).exists():
            yield f"{word} does not exist"


def _extras(arguments: list[str]) -> Iterator[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for found in re.findall(r"eigenhub\[([\w,]+)\]", " ".join(arguments)):
        for name in found.split(","):
            if name not in extras:
                yield f"eigenhub has no extra {name}"


def _command(arguments: list[str]) -> Iterator[str]:
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command)
    rest = list(arguments)
    while hasattr(command, "get_command"):
        name = rest.pop(0) if rest else ""
        found = command.get_command(context, name)
        if found is None:
            yield f"eigenhub {' '.join(arguments)}: there is no command {name!r}"
            return
        command, context = found, click.Context(found, parent=context)
    if command.name not in FREE:
        flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            if word.startswith("--") and word.partition("=")[0] not in flags:
                yield f"eigenhub {' '.join(arguments)}: there is no flag {word}"
