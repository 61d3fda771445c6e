# SPDX-License-Identifier: Apache-2.0
"""The pages that are generated from the stored results: a summary, and one page for every report."""

from pathlib import Path
from typing import Any

from support.record import Record, stored
from support.report import KINDS, RESULTS
from support.summary import (
    change_lines,
    machine_lines,
    missed_lines,
    summary_lines,
    table,
    unmatched_lines,
    value_of,
)


HEADER = """# Benchmarks

Generated from `results` by the benchmarks themselves. Unless a page says otherwise, all figures are ratios between contenders
timed in turn in one run, so that they say something beyond this machine; smaller is better. "Bound" is what the project asks
of itself.

## How to run them

```bash
python benchmarks --short        # all, small: what `make bench` runs; compares with the stored short sitting
python benchmarks --full         # all, whole: what `make bench-full` runs; its results become the stored ones
python benchmarks --only dct s5_ptd
python benchmarks/sorsa.py --short
```

Every benchmark runs in a process of its own, and all results of a sitting go to one file, `runs/bench/sittings/*/sitting.json`.
A benchmark that fails is named at the end; after an interruption the same command goes on where it was. Peers that are not
installed are named and left out. The last line runs one benchmark by itself and saves nothing.

A sitting is compared with the stored one of its mode, like with like: ratios of times, memory and counts. What has changed by
more than 15 per cent is shown. It is called a regression or an improvement if the spreads (quartiles over the rounds, in
brackets on the pages) of both runs lie apart; otherwise the spread explains it, or there is none to say so.
"""
NO_GPU = "No GPU was available, so there is no page with figures of one."
FULL_TEXT = "One line for every benchmark; its pages have all rows. Growth is that of a ratio, a memory or a count since the run stored before."
SHORT_TEXT = (
    "Small sizes and few rounds, to see whether something has changed since. Studies of trained models take a few "
    "steps here that show that they run, so bounds of their findings do not count."
)


def section(content: Record) -> str:
    """One report as Markdown, title first."""
    env = content["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in env["versions"].items())
    lines = []
    for row in content["rows"]:
        bound = "" if row["bound"] is None else f"≤ {row['bound']:g}"
        met = "" if row["bound"] is None else ("yes" if row["value"] <= row["bound"] else "**no**")
        lines.append([row["what"], row["setting"], row["kind"], value_of(row), bound, met])
    parts = [
        f"## {content['title']}",
        "",
        f"{env['date']}, {env['device']}, {env['threads']} threads on {env['cores']} cores; {versions}.",
        "",
        *([content["note"], ""] if content.get("note") else []),
        *table(["what", "setting", "kind", "measured", "bound", "met"], lines),
    ]
    return "\n".join([*parts, ""])


def page(content: Record) -> str:
    """The page of one report."""
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in content["rows"])]
    tail = [
        f"`python benchmarks/{content['program']}.py --full`; back to [all benchmarks](../README.md).",
        "",
        *(f"- {kind}: {KINDS[kind]}" for kind in kinds),
    ]
    return "\n".join([section(content)[1:], *tail, ""])


def report(record: Record, title: str, text: str, linked: bool = False) -> str:
    """A sitting as Markdown.

    Args:
        record (`dict`): of the sitting.
        title (`str`): heading.
        text (`str`): below it.
        linked (`bool`, *optional*, defaults to `False`): whether the lines of the table lead to the pages of the reports.
    """
    parts = [
        [f"## {title}", "", text, "", *machine_lines(record)],
        summary_lines(record, _links if linked else lambda name, entry: name),
        ["### Bounds that are missed", "", *missed_lines(record)],
        ["### What has changed", "", *change_lines(record), *unmatched_lines(record)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _links(name: str, entry: Record) -> str:
    links = [f"[{content['title']}](pages/{slug}.md)" for slug, content in entry.get("sections", {}).items()]
    return "; ".join(links) or name


def pages(results: Path = RESULTS) -> dict[Path, str]:
    """All pages by path, from what is stored.

    Args:
        results (`Path`, *optional*): folder of the stored results.
    """
    home = results.parent
    parts, found = [HEADER], {}
    if (full := stored(results, "full")) is not None:
        parts.append(report(full, "Full runs", FULL_TEXT, linked=True))
        for entry in full["benchmarks"].values():
            for slug, content in entry["sections"].items():
                found[home / "pages" / f"{slug}.md"] = page(content)
        if not any(
            _on_gpu(content) for entry in full["benchmarks"].values() for content in entry["sections"].values()
        ):
            parts.append(f"### GPUs\n\n{NO_GPU}\n")
    if (short := stored(results, "short")) is not None:
        parts.append(report(short, "The stored short sitting", SHORT_TEXT))
    return {home / "README.md": "\n".join(parts), **found}


def _on_gpu(content: dict[str, Any]) -> bool:
    return "nvidia" in content["environment"]["device"].lower()


def render_page(results: Path = RESULTS) -> None:
    """Write `benchmarks/README.md` and `benchmarks/pages/*.md`, and remove pages of reports that are no more.

    Args:
        results (`Path`, *optional*): folder of the stored results.
    """
    found = pages(results)
    (results.parent / "pages").mkdir(exist_ok=True)
    for path in set((results.parent / "pages").glob("*.md")) - set(found):
        path.unlink()
    for path, text in found.items():
        path.write_text(text)
