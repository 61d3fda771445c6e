# SPDX-License-Identifier: Apache-2.0
"""A sitting in a few tables: every benchmark in a line, bounds that are missed, what has changed."""

from collections.abc import Callable, Iterator
from typing import Any

from support.comparison import THRESHOLD, spread_of
from support.record import Record


GAIN = "improvement"
Row = dict[str, Any]


def table(columns: list[str], lines: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *lines)]


def value_of(row: Row) -> str:
    """Value and spread, as exact as the row asks for."""
    return _shown(row["value"], spread_of(row), row.get("digits", 3))


def _shown(value: float, spread: list[float] | None, digits: int = 3) -> str:
    form = f".{digits}g"
    return f"{value:{form}}" + (f" ({spread[0]:{form}} to {spread[1]:{form}})" if spread else "")


def counts(row: Row, mode: str) -> bool:
    """Whether a row has a bound that means something: models of a short run are trained for a few steps only."""
    return row["bound"] is not None and not (mode == "short" and row["kind"] == "quality")


def rows_of(entry: Record) -> Iterator[tuple[str, Row]]:
    """Titles of reports and their rows."""
    for section in entry.get("sections", {}).values():
        for row in section["rows"]:
            yield section["title"], row


def missed(record: Record) -> list[tuple[str, Row]]:
    """All rows whose bound is not met."""
    rows = (pair for entry in record["benchmarks"].values() for pair in rows_of(entry))
    return [(title, row) for title, row in rows if counts(row, record["mode"]) and row["value"] > row["bound"]]


def changes_of(record: Record) -> list[Record]:
    """Large changes of all benchmarks, the worst first."""
    found = [c for entry in record["benchmarks"].values() for c in (entry.get("comparison") or {}).get("changes", [])]
    return sorted(found, key=lambda change: -change["share"])


def regressions(record: Record) -> list[Record]:
    """Changes for the worse that the spread of their rows does not explain."""
    return [change for change in changes_of(record) if change["verdict"] == "regression"]


def machine_lines(record: Record) -> list[str]:
    """Where and with what a sitting was."""
    machine = record["machine"]
    if machine is None:
        return ["Measured one by one, outside of a sitting; date and versions stand on each page."]
    flags = f", {' '.join(machine['flags'])}" if machine["flags"] else ""
    found = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    apart = [name for name, entry in record["benchmarks"].items() if entry["seconds"] is None]
    absent = f"Not installed: {', '.join(record['absent'])}." if record["absent"] else "No peer was absent."
    return [
        f"{record['begun'][:10]}, {machine['cpu']}{flags}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['memory_gb']:g} GB, {machine['gpu'] or 'no GPU'}.",
        f"{found}. {absent}",
        *([f"Run by themselves, with date and versions on their pages: {', '.join(apart)}."] if apart else []),
    ]


def summary_lines(record: Record, name_of: Callable[[str, Record], str]) -> list[str]:
    """A line for every benchmark.

    Args:
        record (`dict`): of the sitting.
        name_of (`Callable`): from a program and its entry to what the first column says.
    """
    lines = []
    for name, entry in record["benchmarks"].items():
        rows = [row for _, row in rows_of(entry)]
        bounded = [row for row in rows if counts(row, record["mode"])]
        fails = sum(row["value"] > row["bound"] for row in bounded)
        state = {"failed": "**failed**", "skipped": f"skipped: {entry.get('reason')}"}.get(entry["status"])
        worst = (entry.get("comparison") or {}).get("worst")
        lines.append(
            [
                name_of(name, entry),
                state or str(len(rows)),
                str(len(bounded) - fails),
                f"**{fails}**" if fails else "0",
                "" if worst is None else f"{worst:+.0%}",
                "" if entry["seconds"] is None else f"{entry['seconds']:.0f}",
            ]
        )
    return table(["benchmark", "rows", "bounds met", "missed", "largest growth", "seconds"], lines)


def missed_lines(record: Record) -> list[str]:
    """The bounds that are missed, named."""
    lines = [
        [title, row["what"], row["setting"], value_of(row), f"≤ {row['bound']:.3g}"] for title, row in missed(record)
    ]
    if not lines:
        return ["All bounds are met."]
    return table(["benchmark", "what", "setting", "measured", "bound"], lines)


def change_lines(record: Record) -> list[str]:
    """What has changed since the run that was stored before."""
    against = record.get("against")
    if against is None:
        return ["There was no stored run to compare with."]
    text = [f"Against the run of {against['date']}. {'; '.join(_differences(record, against))}".strip()]
    found = changes_of(record)
    if not found:
        return [*text, "", f"No ratio of times, no memory and no count differs by more than {THRESHOLD:.0%}."]
    lines = [
        [
            f"**{c['verdict']}**" if c["verdict"] == "regression" else c["verdict"],
            c["section"],
            c["what"],
            c["setting"],
            *map(_shown, (c["before"], c["after"]), c["spreads"]),
            f"{c['share']:+.0%}",
        ]
        for c in found
    ]
    return [*text, "", *table(["verdict", "benchmark", "what", "setting", "before", "now", "change"], lines)]


def unmatched_lines(record: Record) -> list[str]:
    """Rows that only one of both runs has."""
    lines = []
    for name, entry in record["benchmarks"].items():
        found = entry.get("comparison") or {}
        for key, text in (("gone", "no longer there"), ("new", "not in the stored run")):
            lines += [f"- {name}, {text}: {what}" for what in found.get(key, [])]
    return ["", *lines] if lines else []


def _differences(record: Record, against: Record) -> list[str]:
    """What else is not as it was, so that a change need not be ours."""
    if against["machine"] is None:
        return ["Nothing is known of its machine."]
    found = []
    if against["machine"] != record["machine"]:
        found.append(f"That was another machine: {against['machine']['cpu']}")
    old, new = against["versions"], record["versions"]
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return found + [f"{name} {old.get(name, 'absent')} then, {new.get(name, 'absent')} now" for name in names]
