# SPDX-License-Identifier: Apache-2.0
"""What the YAML configurations of the scripts say in their comments: published settings, departures, commands."""

import re
from dataclasses import dataclass
from pathlib import Path

from eigenhub_docs.repository import ROOT


SETTING = re.compile(r"""^(?P<key>\w+):\s*(?P<value>"(?:[^"\\]|\\.)*"|[^#]*?)\s*(?:#\s*(?P<note>.*))?$""")
# configurations that another script than the method's first one reads, and whose comments give no command
OTHER_SCRIPTS = {"scripts/s5_ptd/configs/lm_bytes.yaml": "scripts/s5_ptd/train_lm.py"}
# how a header says that a setting, or the figures beside it, come from somewhere else
PUBLISHED = re.compile(
    r"published(?!\s+figure)|official|arXiv|README|paper|method comparison|settings of the code", re.IGNORECASE
)


@dataclass(frozen=True)
class Setting:
    """One value of a configuration and the comment behind it."""

    key: str
    value: str
    note: str


@dataclass(frozen=True)
class Config:
    """A configuration as its comments tell it.

    Args:
        path (`str`): its path in the repository.
        blocks (`tuple[tuple[str, bool], ...]`): paragraphs of the comment at its head, and whether each is a command.
        settings (`tuple[Setting, ...]`): its values in order.
    """

    path: str
    blocks: tuple[tuple[str, bool], ...]
    settings: tuple[Setting, ...]

    @property
    def text(self) -> list[str]:
        return [block for block, is_command in self.blocks if not is_command]

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def is_published(self) -> bool:
        """Whether it is told to follow, or to be comparable with, something published."""
        return any(PUBLISHED.search(text) for text in self.text)

    def command(self, script: str) -> str:
        """How to run it: as its comments say, or with the script that is given."""
        told = [block for block, is_command in self.blocks if is_command]
        return told[0] if told else f"accelerate launch {OTHER_SCRIPTS.get(self.path, script)} --config {self.path}"


def configs_of(slug: str) -> list[Config]:
    """All configurations of a method, by name."""
    return [read_config(path) for path in sorted((ROOT / "scripts" / slug / "configs").glob("*.yaml"))]


def read_config(path: Path) -> Config:
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return Config(path.relative_to(ROOT).as_posix(), _blocks(lines[:length]), _settings(lines[length:]))


def _blocks(lines: list[str]) -> tuple[tuple[str, bool], ...]:
    """Paragraphs of the head, each with whether it is a command: those are indented by more than one space."""
    blocks: list[tuple[str, bool]] = []
    last = None
    for line in lines:
        text = line.removeprefix("#").rstrip()
        kind = None if not text.strip() else text.startswith("  ")
        if kind is not None:
            text = text[3:] if kind else text.strip()
            if blocks and kind == last:
                blocks[-1] = (blocks[-1][0] + "\n" + text, kind)
            else:
                blocks.append((text, kind))
        last = kind
    return tuple(blocks)


def _settings(lines: list[str]) -> tuple[Setting, ...]:
    """Values with their comments; a line of nothing but an indented comment goes on with the one above."""
    found: list[Setting] = []
    for line in lines:
        match = SETTING.match(line)
        if match:
            found.append(Setting(match["key"], match["value"], match["note"] or ""))
        elif found and line.startswith(" ") and line.strip().startswith("#"):
            last = found.pop()
            found.append(
                Setting(last.key, last.value, f"{last.note} {line.strip().removeprefix('#').strip()}".strip())
            )
    return tuple(found)
