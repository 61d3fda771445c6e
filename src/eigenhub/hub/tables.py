# SPDX-License-Identifier: Apache-2.0
"""Figures as Markdown."""

from eigenhub.hub.results import Measured, Published, Results


def results_table(results: Results) -> str:
    """Figures as a Markdown table, published beside measured.

    Args:
        results (`Results`): figures of one method or checkpoint.

    Returns:
        `str`: the table.
    """
    lines = [
        "| data, metric | setting | method | measured | published | about the published figure |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for figure, measured, published in results.rows():
        cells = [f"{figure.dataset.name}, {figure.metric}", figure.setting, figure.method]
        cells += [_measured_cell(measured), *_published_cells(published)]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _measured_cell(m: Measured | None) -> str:
    if m is None:
        return "not run here"
    return f"{m.value:g} (1 seed)" if m.spread is None else f"{m.value:g} ± {m.spread:g} ({len(m.seeds)} seeds)"


def _published_cells(p: Published | None) -> tuple[str, str]:
    return (f"{p.value:g} ([{p.source.name}]({p.source.url}))", p.verified) if p else ("", "")
