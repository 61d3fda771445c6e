# SPDX-License-Identifier: Apache-2.0
"""How long Spaces take to open, as a Markdown table: `python -m tests.spaces.opening_times [SLUG ...]`; all by default."""

import sys

from eigenhub.methods import METHODS
from tests.spaces.checks import opened_by_command


def main() -> None:
    """Open one after the other, the gallery last."""
    print("| Space | seconds | of the processor |\n| --- | --- | --- |")
    for slug in sys.argv[1:] or [*(method.slug for method in METHODS), "gallery"]:
        with opened_by_command(*([] if slug == "gallery" else [slug])) as opened:
            print(f"| {slug} | {opened.seconds:.1f} | {opened.cpu_seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
