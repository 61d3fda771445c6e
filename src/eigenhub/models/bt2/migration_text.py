# SPDX-License-Identifier: Apache-2.0
"""A [`MigrationReport`] in words."""

from collections.abc import Sequence

from eigenhub.models.bt2.comparison import PathResult
from eigenhub.models.bt2.migration import BETTER, MAIN, WORSE, MigrationReport


LABELS = {
    "old/old": "before: old encoder, old index",
    "new/old": "now: new queries, old index",
    "new/new": "after: everything backfilled",
    "independent": "the new encoder without a head",
}


def report_text(report: MigrationReport) -> str:
    """
    The report as lines of text.

    Args:
        report (`MigrationReport`): the report.
    """
    parts = [_quality(report), _cost(report), _way(report), _verdict(report)]
    if report.paths:
        parts.append(paths_text(report.paths))
    return "\n\n".join(parts)


def _quality(report: MigrationReport) -> str:
    names = list(report.metrics["old/old"])
    rows = [["", *names]]
    rows += [[LABELS[side], *(f"{values[name]:.3f}" for name in names)] for side, values in report.metrics.items()]
    return _aligned(rows)


def _cost(report: MigrationReport) -> str:
    rows = [
        ["vectors", f"{report.num_vectors:,}"],
        ["hours to embed them anew", f"{report.hours:,.1f}"],
        *([["money", f"{report.money:,.2f}"]] if report.money is not None else []),
        ["downtime", "none: the index is searched all the while, and backfilled in place"],
        [f"{MAIN} before, now, after", " -> ".join(f"{report.metrics[s][MAIN]:.3f}" for s in list(LABELS)[:3])],
        ["storage of the vectors", f"{_size(report.bytes_before)} -> {_size(report.bytes_after)}"],
        ["extra storage", f"{_size(report.bytes_after - report.bytes_before)} ({report.extra_storage:+.0%})"],
        ["a second index would take", f"{_size(report.bytes_before + report.bytes_after)} until the switch"],
    ]
    return _aligned(rows)


def _way(report: MigrationReport) -> str:
    shares = ["share backfilled", *(f"{share:.0%}" for share in report.plain.shares)]
    plain = [f"{MAIN}", *(f"{value:.3f}" for value in report.plain.values)]
    scaled = [f"with old_scale {report.old_scale:g}", *(f"{value:.3f}" for value in report.calibrated.values)]
    return _aligned([shares, plain, scaled])


def _verdict(report: MigrationReport) -> str:
    mean, margin = report.difference
    figures = f"{MAIN} {mean:+.3f} ± {margin:.3f} (95 % interval)"
    if report.verdict == WORSE:
        return (
            f"NOTHING TO GAIN: the new encoder is not better than the old one on these texts, {figures}. Keep the old one: "
            f"compatibility would only drag it down."
        )
    now = report.metrics["new/old"][MAIN] - report.metrics["old/old"][MAIN]
    gain = "" if report.gain is None else f", {report.gain:.0%} of what there is to gain"
    day_one = f"New queries on the old index change {MAIN} by {now:+.3f} at once{gain}."
    if report.verdict == BETTER:
        worse = " They are worse until the backfill has come some way: backfill first." if now < 0 else ""
        return f"The new encoder is better on these texts, {figures}. {day_one}{worse}"
    return f"The new encoder is not clearly better on these texts, {figures}: measure on more of them. {day_one}"


def paths_text(paths: Sequence[PathResult]) -> str:
    """
    Ways of upgrading as a table.

    Args:
        paths (`Sequence[PathResult]`): the ways.
    """
    rows = [["way", f"{paths[0].curve.metric} now", "after", "mean on the way", "calibrated", "needs"]]
    for path in paths:
        scaled = "" if path.calibrated is None else f"{path.calibrated.auc:.3f} ({path.calibrated.old_scale:g})"
        needs = f"{path.extra_encoders} more encoder per query" if path.extra_encoders else ""
        rows.append([path.name, f"{path.now:.3f}", f"{path.after:.3f}", f"{path.curve.auc:.3f}", scaled, needs])
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows
    )


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"
