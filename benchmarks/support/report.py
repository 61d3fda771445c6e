# SPDX-License-Identifier: Apache-2.0
"""Rows of a report and the files that they are saved to."""

import datetime
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


RESULTS = Path(__file__).parent.parent / "results"
#: Set by a sitting: the folder that takes the results of a program, those of short runs too.
RESULTS_VARIABLE = "EIGENHUB_BENCH_RESULTS"
#: What a value can be. Only like is compared with like, and only the first three have a direction that is ours to answer for.
KINDS = {
    "ratio": "time of ours over that of a peer, of another form or of another size",
    "excess": "such a ratio less one",
    "size": "bytes, memory or numbers of parameters, mostly ratios of them",
    "peers": "ratio of times in which ours has no part",
    "time": "an absolute time or rate, which says nothing on another machine",
    "error": "a numerical error",
    "quality": "what trained models are worth, or another finding",
}


def environment(packages: list[str]) -> dict[str, Any]:
    """Machine, date and versions of a run."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "date": datetime.date.today().isoformat(),
        "device": device,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ["torch", *packages]},
    }


def row(
    what: str, setting: str, value: float, bound: float | None = None, kind: str | None = None, **details: Any
) -> dict[str, Any]:
    """One line of a report: `bound` is the largest `value` that is accepted.

    `what` and the part of `setting` in front of a semicolon identify the line, from one run to the next; what was measured
    beside the value stands behind the semicolon. `kind` is a key of `KINDS`; without it, that of the report. Among the
    details, `quartiles` or `range` show the spread and `digits` (3) says how exactly to print it.
    """
    kinds = {} if kind is None else {"kind": kind}
    return {"what": what, "setting": setting, "value": value, "bound": bound, **kinds, **details}


def results_folder() -> Path:
    """Where programs write their results, and read what they have written."""
    return Path(os.environ.get(RESULTS_VARIABLE, RESULTS))


def save(
    slug: str,
    title: str,
    rows: list[dict[str, Any]],
    packages: list[str],
    keep: bool = True,
    note: str = "",
    kind: str = "ratio",
) -> None:
    """Print the rows of one run; write them and make the pages anew, unless the run was only a quick look.

    In a sitting all rows are written to its folder, and no page is made.

    Args:
        slug (`str`): name of the file.
        title (`str`): title of the page.
        rows (`list[dict]`): from [`row`].
        packages (`list[str]`): whose versions to note, beside torch.
        keep (`bool`, *optional*, defaults to `True`): whether this is a full run.
        note (`str`, *optional*): what the figures are, where they are not ratios of times.
        kind (`str`, *optional*, defaults to `"ratio"`): of rows that do not say it themselves.
    """
    from support.pages import render_page, section

    rows = [{"kind": kind, **line} for line in rows]
    if unknown := {line["kind"] for line in rows} - set(KINDS):
        raise ValueError(f"kind of a row must be one of {', '.join(KINDS)}, got {', '.join(sorted(unknown))}")
    content = {
        "title": title,
        "note": note,
        "program": Path(sys.argv[0]).stem,
        "environment": environment(packages),
        "rows": rows,
    }
    print(section(content))
    sitting = RESULTS_VARIABLE in os.environ
    if keep or sitting:
        results_folder().mkdir(parents=True, exist_ok=True)
        (results_folder() / f"{slug}.json").write_text(json.dumps(content, indent=2) + "\n")
    if keep and not sitting:
        render_page()
