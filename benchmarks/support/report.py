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

Generated from `results/*.json` by the benchmarks themselves; run them with `make bench`. All figures are ratios between
contenders timed in turn in one run, so that they say something beyond this machine. "Bound" is what the project asks of
itself.
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
    """One line of a report: `value` is a ratio, and `bound` the largest that is accepted."""
    return {"what": what, "setting": setting, "value": value, "bound": bound, **details}


def save(slug: str, title: str, rows: list[dict[str, Any]], packages: list[str], keep: bool = True) -> None:
    """Print the rows of one run; write them and make the page anew, unless the run was only a quick look."""
    content = {"title": title, "environment": environment(packages), "rows": rows}
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
        "| what | setting | measured | bound | met |",
        "| --- | --- | --- | --- | --- |",
    ]
    for entry in content["rows"]:
        bound = "" if entry["bound"] is None else f"≤ {entry['bound']:g}"
        met = "" if entry["bound"] is None else ("yes" if entry["value"] <= entry["bound"] else "**no**")
        spread = entry.get("quartiles")
        value = f"{entry['value']:.3g}" + (f" ({spread[0]:.3g} to {spread[1]:.3g})" if spread else "")
        lines.append(f"| {entry['what']} | {entry['setting']} | {value} | {bound} | {met} |")
    return "\n".join([*lines, ""])
