# SPDX-License-Identifier: Apache-2.0
"""Launch every training program in every way and write the table: `python -m tests.launch_matrix [--check]`."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import conftest  # noqa: F401  # first: it takes everything offline before a library is imported
from tests.launch_matrix.cells import Cell
from tests.launch_matrix.columns import COLUMNS
from tests.launch_matrix.programs import PROGRAMS
from tests.launch_matrix.stored import (
    PAGE,
    Table,
    current_versions,
    differences,
    page_with,
    read,
    said,
    stored_versions,
    write,
)


SCRIPTS = [program.script for program in PROGRAMS]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    keys = [column.key for column in COLUMNS]
    parser = argparse.ArgumentParser(prog="python -m tests.launch_matrix", description=__doc__)
    parser.add_argument("--program", nargs="+", choices=SCRIPTS, default=SCRIPTS, help="only these rows")
    parser.add_argument("--column", nargs="+", choices=keys, default=keys, help="only these columns")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a stored cell is not true")
    parser.add_argument("--render", action="store_true", help="launch nothing; write the page from the stored cells")
    parser.add_argument(
        "--deepspeed_python", help="interpreter that has DeepSpeed beside the project's packages; default: this one"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, then write or compare; the exit code."""
    args = parse_args(argv)
    if args.render:
        return write_page(read())
    from tests.launch_matrix.measure import measure, own_deepspeed

    python = args.deepspeed_python or own_deepspeed(sys.executable)
    measured: Table = {}

    def tell(script: str, column: str, cell: Cell | None) -> None:
        if cell is None:
            print(f"{script} {column}: DeepSpeed is not installed, the stored cell stays", flush=True)
            return
        measured.setdefault(script, {})[column] = cell
        print(f"{script} {column}: {said(cell)}", flush=True)
        if not args.check:
            store(script, column, cell, python)

    with tempfile.TemporaryDirectory() as folder:
        chosen = [program for program in PROGRAMS if program.script in args.program]
        measure(chosen, args.column, Path(folder), python, tell)
    if not args.check:
        return 0
    lines = differences(read(), measured)
    print("\n".join(lines) if lines else "all cells are as docs/training.yaml says")
    return 1 if lines else 0


def store(script: str, column: str, cell: Cell, python: str | None) -> None:
    """Puts one cell into file and page at once: the whole takes long."""
    table = read()
    table.setdefault(script, {})[column] = cell
    deepspeed = version_of_deepspeed(python) if column.startswith("zero") else stored_versions().get("deepspeed")
    write(table, SCRIPTS, current_versions(deepspeed))
    write_page(table)


def version_of_deepspeed(python: str | None) -> str | None:
    if python is None:
        return None
    code = "import importlib.metadata as m; print(m.version('deepspeed'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def write_page(table: Table) -> int:
    if PAGE.is_file():
        PAGE.write_text(page_with(PAGE.read_text("utf-8"), table, SCRIPTS, stored_versions()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
