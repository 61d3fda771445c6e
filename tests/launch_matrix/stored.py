# SPDX-License-Identifier: Apache-2.0
"""The measured cells as `docs/training.yaml`, and the table of `docs/training.md`."""

import platform
from importlib.metadata import version
from pathlib import Path

import yaml

from tests.launch_matrix.cells import Cell
from tests.launch_matrix.columns import COLUMNS
from tests.support.processes import ROOT


DATA, PAGE = ROOT / "docs" / "training.yaml", ROOT / "docs" / "training.md"
BEGIN, END = "<!-- launches -->", "<!-- /launches -->"
MARKS = {"yes": "✓", "no": "✗", "refused": "refused", "n/a": "–"}
UNKNOWN = "?"
PACKAGES = ("torch", "transformers", "peft", "accelerate")
Table = dict[str, dict[str, Cell]]


def read(path: Path = DATA) -> Table:
    """The stored cells by script and key of the column.

    Args:
        path (`Path`, *optional*): of the file; none holds none.
    """
    if not path.is_file():
        return {}
    rows = yaml.safe_load(path.read_text("utf-8"))["programs"]
    return {script: {key: Cell(**cell) for key, cell in cells.items()} for script, cells in rows.items()}


def write(table: Table, scripts: list[str], versions: dict[str, str], path: Path = DATA) -> None:
    """Rows in the order of the programs, cells in that of the columns.

    Args:
        table (`Table`): cells by script and key of the column.
        scripts (`list[str]`): the rows.
        versions (`dict[str, str]`): what the cells were measured with.
        path (`Path`, *optional*): of the file.
    """
    rows = {
        script: {
            column.key: {name: value for name, value in vars(cells[column.key]).items() if value}
            for column in COLUMNS
            if column.key in cells
        }
        for script in scripts
        if (cells := table.get(script))
    }
    content = {"command": "python -m tests.launch_matrix", "versions": versions, "programs": rows}
    header = "# Written by `python -m tests.launch_matrix`: measure again instead of editing.\n"
    path.write_text(header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000), "utf-8")


def stored_versions(path: Path = DATA) -> dict[str, str]:
    """What the stored cells were measured with.

    Args:
        path (`Path`, *optional*): of the file.
    """
    return yaml.safe_load(path.read_text("utf-8"))["versions"] if path.is_file() else {}


def current_versions(deepspeed: str | None) -> dict[str, str]:
    """Of Python and the packages that decide how a launch goes.

    Args:
        deepspeed (`str`, *optional*): version of DeepSpeed, if it took part.
    """
    found = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    return found | ({"deepspeed": deepspeed} if deepspeed else {})


def table_text(table: Table, scripts: list[str]) -> str:
    """What stands between the markers of the page: marks, and below them what is to be known of a cell.

    Args:
        table (`Table`): cells by script and key of the column.
        scripts (`list[str]`): the rows.
    """
    head = ["| program | " + " | ".join(column.title for column in COLUMNS) + " |"]
    lines = [*head, "| --- |" + " :-: |" * len(COLUMNS)]
    for script in scripts:
        cells = table.get(script, {})
        marks = [MARKS[cells[column.key].state] if column.key in cells else UNKNOWN for column in COLUMNS]
        lines.append(f"| `{script}` | " + " | ".join(marks) + " |")
    return "\n".join([*lines, "", *notes(table, scripts)]).rstrip()


def notes(table: Table, scripts: list[str]) -> list[str]:
    """A line for each text, with the columns that share it.

    Args:
        table (`Table`): cells by script and key of the column.
        scripts (`list[str]`): the rows.
    """
    lines = []
    for script in scripts:
        cells = table.get(script, {})
        titles: dict[str, list[str]] = {}
        for column in COLUMNS:
            if column.key in cells and cells[column.key].text:
                titles.setdefault(cells[column.key].text, []).append(column.title)
        lines += [f"- `{script}`, {', '.join(columns)}: {text}" for text, columns in titles.items()]
    return lines


def days(table: Table) -> str:
    """When the cells were measured.

    Args:
        table (`Table`): cells by script and key of the column.
    """
    found = sorted({cell.date for cells in table.values() for cell in cells.values() if cell.date})
    return "never" if not found else found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def page_with(page: str, table: Table, scripts: list[str], versions: dict[str, str]) -> str:
    """The page with the table between its markers.

    Args:
        page (`str`): text of `docs/training.md`.
        table (`Table`): cells by script and key of the column.
        scripts (`list[str]`): the rows.
        versions (`dict[str, str]`): what the cells were measured with.
    """
    if BEGIN not in page or END not in page:
        raise ValueError(f"`page` must hold {BEGIN} and {END}")
    start, rest = page.split(BEGIN, 1)
    end = rest.split(END, 1)[1]
    said = ", ".join(f"{name} {number}" for name, number in versions.items())
    where = f"Measured {days(table)} on a CPU, one thread a process, with {said}."
    return f"{start}{BEGIN}\n{table_text(table, scripts)}\n\n{where}\n{END}{end}"


def differences(stored: Table, measured: Table) -> list[str]:
    """One line for each cell that is not as stored.

    Args:
        stored (`Table`): cells by script and key of the column.
        measured (`Table`): likewise, perhaps of some rows and columns only.
    """
    lines = []
    for script, cells in measured.items():
        for key, cell in cells.items():
            known = stored.get(script, {}).get(key)
            if known is None or known.comparable() != cell.comparable():
                lines.append(f"{script} {key}: stored {said(known)}, measured {said(cell)}")
    return lines


def said(cell: Cell | None) -> str:
    return "nothing" if cell is None else f"{cell.state} ({cell.text})" if cell.text else cell.state
