# SPDX-License-Identifier: Apache-2.0
"""Measure the table of capabilities: `python -m tests.capabilities [--method SLUG ...] [--column KEY ...] [--check]`."""

import argparse
import os
import shutil
import sys
import warnings
from typing import TYPE_CHECKING

import tests.conftest  # noqa: F401  # takes everything offline before a library is imported


if TYPE_CHECKING:
    from tests.capabilities.measure import Table
    from tests.capabilities.stored import Stored


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    from eigenhub.methods import METHODS
    from tests.capabilities.columns import COLUMNS

    slugs, keys = [method.slug for method in METHODS], [column.key for column in COLUMNS]
    parser = argparse.ArgumentParser(prog="python -m tests.capabilities", description=__doc__)
    parser.add_argument("--method", nargs="+", choices=slugs, default=slugs, help="only these rows")
    parser.add_argument("--column", nargs="+", choices=keys, default=keys, help="only these columns")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a stored cell is not true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, then write or compare; the exit code."""
    args = parse_args(argv)
    warnings.simplefilter("ignore")
    from transformers.utils import logging

    logging.set_verbosity_error()
    from tests.capabilities.measure import measure
    from tests.capabilities.probes import probes_of
    from tests.capabilities.stored import differences, read_table

    stored = read_table()
    measured = measure([probes_of(slug) for slug in args.method], args.column)
    if not args.check:
        return write(stored, measured)
    lines = differences(stored.table, measured)
    count = sum(len(cells) for cells in measured.values())
    print("\n".join(lines) if lines else f"all {count} cells are as docs/capabilities.yaml says")
    return 1 if lines else 0


def write(stored: "Stored", measured: "Table") -> int:
    """Renew the file, the page and the part of the README."""
    from tests.capabilities.columns import COLUMNS
    from tests.capabilities.page import write_page, write_readme
    from tests.capabilities.stored import current_versions, write_table

    partial = any(len(cells) < len(COLUMNS) for cells in measured.values()) or measured.keys() < stored.table.keys()
    if partial and stored.versions not in ({}, current_versions()):
        print("the stored table was measured with other versions: measure all of it", file=sys.stderr)
        return 2
    stored = stored.with_measured(measured)
    write_table(stored)
    write_page(stored)
    write_readme(stored.table)
    return 0


if __name__ == "__main__":
    code = main()
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)
    sys.exit(code)
