# SPDX-License-Identifier: Apache-2.0
"""The measured table as a file, and what has changed since."""

import datetime
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from tests.capabilities.cells import Cell
from tests.capabilities.columns import COLUMNS
from tests.capabilities.measure import Table
from tests.support.processes import ROOT


TABLE_FILE = ROOT / "docs" / "capabilities.yaml"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "gradio")


@dataclass(frozen=True)
class Stored:
    """A table with the circumstances of its measurement.

    Args:
        table (`dict`): cells by slug and key of the column.
        dates (`dict`): day of each cell's measurement, likewise.
        versions (`dict[str, str]`): of Python and the packages, the same for all cells.
    """

    table: Table
    dates: dict[str, dict[str, str]]
    versions: dict[str, str]

    def with_measured(self, measured: Table) -> "Stored":
        """A copy in which the measured cells are new.

        Args:
            measured (`dict`): cells by slug and key of the column.
        """
        today = datetime.date.today().isoformat()
        new = {slug: dict.fromkeys(cells, today) for slug, cells in measured.items()}
        return Stored(joined(self.table, measured), joined(self.dates, new), current_versions())


def joined(old: dict, new: dict) -> dict:
    """Rows of both, cells of the new ones before those of the old ones."""
    return {slug: old.get(slug, {}) | new.get(slug, {}) for slug in old | new}


def current_versions() -> dict[str, str]:
    """Of Python and the packages that the probes depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def read_table(path: Path = TABLE_FILE) -> Stored:
    """The stored table; an empty one where there is none."""
    content = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {"methods": {}, "versions": {}}
    table: Table = {}
    dates: dict[str, dict[str, str]] = {}
    for slug, cells in content["methods"].items():
        table[slug] = {key: Cell(cell["state"], cell.get("text", "")) for key, cell in cells.items()}
        dates[slug] = {key: cell["date"] for key, cell in cells.items()}
    return Stored(table, dates, content["versions"])


def write_table(stored: Stored, path: Path = TABLE_FILE) -> None:
    """Rows in the order of the methods, cells in that of the columns."""
    methods: dict[str, dict[str, dict[str, str]]] = {}
    for slug, cells in stored.table.items():
        methods[slug] = {}
        for key in (column.key for column in COLUMNS if column.key in cells):
            text = {"text": cells[key].text} if cells[key].text else {}
            methods[slug][key] = {"state": cells[key].state, **text, "date": stored.dates[slug][key]}
    content = {"command": "python -m tests.capabilities", "versions": stored.versions, "methods": methods}
    header = "# Written by `python -m tests.capabilities`: measure again instead of editing.\n"
    path.write_text(header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000), "utf-8")


def differences(stored: Table, measured: Table) -> list[str]:
    """One line for each cell that is not as stored.

    Args:
        stored (`dict`): cells by slug and key of the column.
        measured (`dict`): likewise, perhaps of some rows and columns only.
    """
    lines = []
    for slug, cells in measured.items():
        for key, cell in cells.items():
            known = stored.get(slug, {}).get(key)
            if known is None:
                lines.append(f"{slug} {key}: not stored, measured {said(cell)}")
            elif known.comparable() != cell.comparable():
                lines.append(f"{slug} {key}: stored {said(known)}, measured {said(cell)}")
    return lines


def said(cell: Cell) -> str:
    return f"{cell.state} ({cell.text})" if cell.text else cell.state
