# SPDX-License-Identifier: Apache-2.0
"""Result files, and the page that is generated from them."""

import datetime
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


RESULTS = Path(__file__).parent.parent / "results"
PAGE = RESULTS.parent / "README.md"
HEADER = """# Benchmarks

Generated from `results/*.json` by the benchmarks themselves; run them with `make bench`. Unless a section says otherwise,
all figures are ratios between contenders timed in turn in one run, so that they say something beyond this machine. "Bound"
is what the project asks of itself.
"""


def environment(packages: list[str]) -> dict[str, Any]:
    """Machine, date and versions of a run."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "date": datetime.date.today().isoformat(),
        "device": device,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ["torch", *packages]},
    }


def row(what: str, setting: str, value: float, bound: float | None = None, **details: Any) -> dict[str, Any]:
    """One line of a report: `bound` is the largest `value` that is accepted.

    Among the details, `quartiles` or `range` show the spread and `digits` (3) says how exactly to print it.
    """
    return {"what": what, "setting": setting, "value": value, "bound": bound, **details}


def save(
    slug: str, title: str, rows: list[dict[str, Any]], packages: list[str], keep: bool = True, note: str = ""
) -> None:
    """Print the rows of one run; write them and make the page anew, unless the run was only a quick look.

    `note` says what the figures of this section are, where they are not ratios of times.
    """
    content = {"title": title, "note": note, "environment": environment(packages), "rows": rows}
    print(_section(content))
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{slug}.json").write_text(json.dumps(content, indent=2) + "\n")
        render_page()


def render_page() -> None:
    """Make `benchmarks/README.md` from the result files."""
    sections = [_section(json.loads(path.read_text())) for path in sorted(RESULTS.glob("*.json"))]
    PAGE.write_text("\n".join([HEADER, *sections]))


def _section(content: dict[str, Any]) -> str:
    env = content["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in env["versions"].items())
    lines = [
        f"## {content['title']}",
        "",
        f"{env['date']}, {env['device']}, {env['threads']} threads on {env['cores']} cores; {versions}.",
        "",
        *([content["note"], ""] if content.get("note") else []),
        "| what | setting | measured | bound | met |",
        "| --- | --- | --- | --- | --- |",
    ]
    for entry in content["rows"]:
        bound = "" if entry["bound"] is None else f"≤ {entry['bound']:g}"
        met = "" if entry["bound"] is None else ("yes" if entry["value"] <= entry["bound"] else "**no**")
        spread = entry.get("quartiles") or entry.get("range")
        form = f".{entry.get('digits', 3)}g"
        value = f"{entry['value']:{form}}" + (f" ({spread[0]:{form}} to {spread[1]:{form}})" if spread else "")
        lines.append(f"| {entry['what']} | {entry['setting']} | {value} | {bound} | {met} |")
    return "\n".join([*lines, ""])
