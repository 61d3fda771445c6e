# SPDX-License-Identifier: Apache-2.0
"""The command line that all benchmarks share: `--short`, `--full`, and where finished runs of a study are kept."""

import argparse
import os
from pathlib import Path
from typing import Literal


#: Set by a sitting, so that it measures anew whatever lies in the usual folder.
CACHE_VARIABLE = "EIGENHUB_BENCH_CACHE"


def arguments(
    doc: str | None, default: Literal["short", "full"], short: str, full: str = "everything; saves its results"
) -> argparse.ArgumentParser:
    """A parser whose result has `full`, true or false.

    Args:
        doc (`str`): docstring of the program.
        default (`str`): what runs without a flag.
        short (`str`): what `--short` does, for the help.
        full (`str`, *optional*): the same of `--full`.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    for name, text in (("short", short), ("full", full)):
        usual = " (the default)" if name == default else ""
        length.add_argument(f"--{name}", dest="full", action="store_const", const=name == "full", help=text + usual)
    parser.set_defaults(full=default == "full")
    return parser


def add_cache(parser: argparse.ArgumentParser, slug: str) -> None:
    """Give a parser `--cache`, the folder of finished runs.

    Args:
        parser (`ArgumentParser`): from [`arguments`].
        slug (`str`): name of the folder.
    """
    folder = Path(os.environ.get(CACHE_VARIABLE, "runs/bench")) / slug
    parser.add_argument("--cache", type=Path, default=folder, help="default: %(default)s")
