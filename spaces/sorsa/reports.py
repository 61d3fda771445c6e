# SPDX-License-Identifier: Apache-2.0
"""What training did to the singular values and vectors, as tiles, table and figures."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigenhub.hub.space import tiles
from eigenhub.hub.space_figures import GREY, INK, PALETTE, legend_below, new_figure
from eigenhub.tuners.sorsa import LayerSpectrum


Report = Mapping[str, LayerSpectrum]
BEFORE, AFTER = GREY, PALETTE[0]


def relative_change(spectrum: LayerSpectrum) -> float:
    """Mean of `|S - S0| / S0` over the singular values, in descending order."""
    return ((spectrum.s.abs() - spectrum.s0).abs() / spectrum.s0.clamp_min(1e-12)).mean().item()


def records(report: Report) -> list[dict[str, Any]]:
    """One record per adapted module, in the order of the model, for programs."""
    return [
        {
            "module": name,
            "rank": len(entry.s),
            "kappa_before": entry.kappa0,
            "kappa_after": entry.kappa,
            "defect_u": entry.defect_u,
            "defect_v": entry.defect_v,
            "relative_change": relative_change(entry),
            "angle_degrees": math.degrees(entry.angle),
            "s_before": entry.s0.tolist(),
            "s_after": entry.s.tolist(),
        }
        for name, entry in report.items()
    ]


def table(report: Report) -> list[list[str | float]]:
    """The records without the singular values, with four digits; the columns are `names.HEADERS`."""
    rows = [
        [value for key, value in record.items() if key not in ("s_before", "s_after")] for record in records(report)
    ]
    return [[float(f"{cell:.4g}") if isinstance(cell, float) else cell for cell in row] for row in rows]


def summary(report: Report, model_name: str) -> str:
    """The whole adapter in four tiles."""
    entries = list(report.values())
    ranks = sorted({len(entry.s) for entry in entries})
    rank = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    defects = [value for entry in entries for value in (entry.defect_u, entry.defect_v)]
    kappas = [f"{median(getattr(entry, key) for entry in entries):.3g}" for key in ("kappa0", "kappa")]
    worse = sum(entry.kappa > entry.kappa0 for entry in entries)
    return tiles(
        [
            ("Adapted weights", str(len(entries)), f"of {model_name}, each through {rank} singular triplets"),
            ("Change of S", f"{median(map(relative_change, entries)):.1%}", "median over the weights"),
            ("Orthonormality", f"{sum(defects) / len(defects):.2g}", "mean ‖UᵀU − I‖, ‖VVᵀ − I‖; 0 is exact"),
            ("Condition κ", " → ".join(kappas), f"median; higher than before in {worse} of {len(entries)} weights"),
        ]
    )


def singular_values_figure(entry: LayerSpectrum) -> Figure:
    """S before and after training of one module."""
    figure, axes = new_figure("Singular values S", "index")
    index = range(1, len(entry.s) + 1)
    marker = "o" if len(entry.s) <= 32 else None
    axes.plot(index, entry.s0, color=BEFORE, marker=marker, markersize=4, label="before")
    axes.plot(index, entry.s.abs(), color=AFTER, marker=marker, markersize=4, label="after")
    axes.fill_between(index, entry.s0, entry.s.abs(), color=AFTER, alpha=0.12, linewidth=0)
    legend_below(axes, columns=2)
    return figure


def condition_figure(report: Report) -> Figure:
    """How the condition number of U diag(S) V moved, over the depth of the model."""
    figure, axes = new_figure("Condition number κ, after / before", "layer")
    axes.axhline(1, color=INK, linewidth=0.8, linestyle="--")
    _over_depth(axes, report, lambda entry: entry.kappa / entry.kappa0)
    return figure


def orthonormality_figure(report: Report) -> Figure:
    """How far the singular vectors are from orthonormal, over the depth of the model."""
    figure, axes = new_figure("Mean of ‖UᵀU − I‖ and ‖VVᵀ − I‖", "layer")
    _over_depth(axes, report, lambda entry: (entry.defect_u + entry.defect_v) / 2)
    axes.set_ylim(bottom=0)
    return figure


def _over_depth(axes: Axes, report: Report, value: Callable[[LayerSpectrum], float]) -> None:
    """One line per place in a layer (`q_proj`, ...), against the number of the layer."""
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, entry in report.items():
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        place = name[number.end() + 1 :] if number else name
        lines[place].append((int(number.group()) if number else 0, value(entry)))
    short = {place: place.rpartition(".")[2] for place in lines}
    ambiguous = len(set(short.values())) < len(short)
    for i, (place, points) in enumerate(lines.items()):
        label = place if ambiguous else short[place]
        axes.plot(
            *zip(*sorted(points), strict=True),
            color=PALETTE[i % len(PALETTE)],
            marker="o",
            markersize=3.5,
            label=label,
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(axes, columns=3)
