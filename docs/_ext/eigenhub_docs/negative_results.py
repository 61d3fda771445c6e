# SPDX-License-Identifier: Apache-2.0
"""The page docs/negative_results.md: what did not hold, in order of time, quoted from the results files."""

import json
import re
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import yaml

from eigenhub.hub.results import Results, load_results
from eigenhub.methods import METHODS, Method, get_method
from eigenhub_docs.repository import ROOT


HEAD = """# What did not hold

Claims of papers and of their code, and an aim of our own, that did not hold in our runs: one list over all methods, oldest first. What was found is
quoted from the results file of the method, with its figures; the command makes them again, and the date is that of the stored run.
The claims are in our words, and short of the papers' conditions. Everything was run at small scale, on two CPU cores: a finding
here says that a claim did not show there, not that it is false where it was made.

This page is written by `python docs/_ext/write_pages.py`; change the results files, or `claims.yaml` beside them.
"""


@dataclass(frozen=True)
class Entry:
    """One line of the log."""

    date: str
    method: Method
    claim: str
    finding: str
    command: str


def read_log() -> dict[str, Any]:
    """`claims.yaml` of every method, by slug."""
    return {m.slug: yaml.safe_load((ROOT / m.results).with_name("claims.yaml").read_text("utf-8")) for m in METHODS}


@cache
def results_of(method: Method) -> Results:
    return load_results(ROOT / method.results)


def entries() -> list[Entry]:
    """The log in order of time; methods of one day in the order of the table of methods."""
    found = [_entry(get_method(slug), raw) for slug, log in read_log().items() for raw in log["entries"]]
    return sorted(found, key=lambda entry: entry.date)


def _entry(method: Method, raw: dict[str, str]) -> Entry:
    results = results_of(method)
    date = raw.get("date") or _date(results, raw["command"])
    return Entry(date, method, raw["claim"], finding(results, raw["found"]), raw["command"])


def finding(results: Results, beginning: str) -> str:
    """The one finding that begins so."""
    found = [text for text in results.findings if text.startswith(beginning)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} findings of {results.method} begin with {beginning!r}; exactly one must")
    return found[0]


def _date(results: Results, command: str) -> str:
    """When the stored run of a command was made: by the results file, or by the file that a benchmark leaves."""
    dates = {figure.date for figure in results.measured if figure.command == command}
    if not dates:
        name = re.search(r"benchmarks/(\w+)\.py", command)
        path = ROOT / f"benchmarks/results/{name[1] if name else ''}.json"
        if not path.is_file():
            raise ValueError(f"no stored run of {command!r}; give its `date`")
        dates = {json.loads(path.read_text(encoding="utf-8"))["environment"]["date"]}
    return max(dates)


def negative_results_page() -> str:
    """The whole page."""
    lines = [HEAD]
    for date, day in groupby(entries(), key=lambda entry: entry.date):
        lines += [f"## {date}", ""]
        for method, those in groupby(day, key=lambda entry: entry.method):
            lines += [f"### {method.title}, {date}", "", f"[Page of the method](methods/{method.slug}.md), "]
            lines[-1] += f"[results file](../{method.results})."
            lines += ["", *(line for entry in those for line in _told(entry))]
    return "\n".join(lines).rstrip("\n") + "\n"


def _told(entry: Entry) -> list[str]:
    return [
        f"- **Claim**: {entry.claim}<br>",
        f"  **Found**: {_safe(entry.finding)}<br>",
        f"  **Shown by** `{entry.command}`",
        "",
    ]


def _safe(text: str) -> str:
    return re.sub(r"([$*_<])", r"\\\1", text)
