# SPDX-License-Identifier: Apache-2.0
"""The table for readers: a page with legend and reasons, and the short form of the README."""

from pathlib import Path

from eigenhub.methods import METHODS
from tests.capabilities.cells import Cell
from tests.capabilities.columns import COLUMNS
from tests.capabilities.measure import Table
from tests.capabilities.stored import Stored
from tests.support.processes import ROOT


PAGE_FILE = ROOT / "docs" / "capabilities.md"
BEGIN, END = "<!-- capabilities -->", "<!-- /capabilities -->"
MARKS = {"yes": "✓", "no": "✗", "n/a": "–"}
UNKNOWN = "?"

INTRODUCTION = """\
<!-- Written by `python -m tests.capabilities`: measure again instead of editing. -->

# Capabilities

What each method can do. Every cell is measured by a probe that really does it, on a tiny case on the CPU; none is claimed.
✓ it does, ✗ it does not, – the question means nothing for this method. What is to be known of a cell stands below the table. A probe shows that
something works at all, not that it works for every option: that is what the tests are for.

```bash
python -m tests.capabilities          # measure everything and write this page
python -m tests.capabilities --check  # measure again, and say which cells are no longer true
```
"""


def marks_table(table: Table, docs: str) -> str:
    """Methods by columns, a mark in each cell.

    Args:
        table (`dict`): cells by slug and key of the column.
        docs (`str`): path from the page to `docs/methods`.
    """
    rows = [
        "| method | " + " | ".join(column.title for column in COLUMNS) + " |",
        "| --- |" + " :-: |" * len(COLUMNS),
    ]
    for method in METHODS:
        cells = table.get(method.slug, {})
        marks = [MARKS[cells[column.key].state] if column.key in cells else UNKNOWN for column in COLUMNS]
        rows.append(f"| [{method.title}]({docs}/{method.slug}.md) | " + " | ".join(marks) + " |")
    return "\n".join(rows)


def readme_table(table: Table) -> str:
    """The part of the README between its `capabilities` markers.

    Args:
        table (`dict`): cells by slug and key of the column.
    """
    return (
        marks_table(table, "docs/methods") + "\n\n✓ measured, ✗ measured and not so, – means nothing for this method: "
        "[reasons and what each probe does](docs/capabilities.md)."
    )


def readme_part(readme: str) -> str | None:
    """What stands between the markers of a README; `None` without markers."""
    if BEGIN not in readme or END not in readme:
        return None
    return readme.split(f"{BEGIN}\n", 1)[1].split(f"\n{END}", 1)[0]


def with_readme_table(readme: str, table: Table) -> str:
    """A README with the table between its markers; as it is where it has none.

    Args:
        readme (`str`): its text.
        table (`dict`): cells by slug and key of the column.
    """
    part = readme_part(readme)
    return (
        readme if part is None else readme.replace(f"{BEGIN}\n{part}\n{END}", f"{BEGIN}\n{readme_table(table)}\n{END}")
    )


def page(stored: Stored) -> str:
    """The whole of `docs/capabilities.md`.

    Args:
        stored (`Stored`): the measured table.
    """
    parts = [INTRODUCTION, marks_table(stored.table, "methods"), "## What each probe does"]
    parts.append("\n".join(f"- **{column.title}**: {column.legend}" for column in COLUMNS))
    parts.append("## What is to be known of the cells")
    parts += [notes for method in METHODS if (notes := notes_of(method.title, stored.table.get(method.slug, {})))]
    parts.append("## Where it was measured")
    parts.append(circumstances(stored))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def notes_of(title: str, cells: dict[str, Cell]) -> str:
    """Reasons and notes of one method; empty if there are none."""
    lines = [
        f"- {MARKS[cells[column.key].state]} {column.title}: {cells[column.key].text}"
        for column in COLUMNS
        if column.key in cells and cells[column.key].text
    ]
    return "\n".join([f"**{title}**", "", *lines]) if lines else ""


def circumstances(stored: Stored) -> str:
    days = sorted({day for cells in stored.dates.values() for day in cells.values()})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else "never"
    versions = ", ".join(f"{name} {number}" for name, number in stored.versions.items())
    return f"On the CPU, one thread, {when}, with {versions}."


def write_page(stored: Stored, path: Path = PAGE_FILE) -> None:
    path.write_text(page(stored), "utf-8")


def write_readme(table: Table, path: Path = ROOT / "README.md") -> None:
    """Renew the part between the markers, if there are any."""
    text = path.read_text("utf-8")
    path.write_text(with_readme_table(text, table), "utf-8")
