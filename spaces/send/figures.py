# SPDX-License-Identifier: Apache-2.0
"""Figures of a score, of a threshold, and of embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from names import CONVENTIONS
from thresholds import roc_points

from eigenhub.hub.space_figures import GREY, INK, PALETTE, legend_below, log_scale, new_figure


SIZE = (4.8, 3.4)
RIGHT, WRONG = PALETTE[1], PALETTE[7]
#: Eigenvalues below this share of α change nothing and are drawn here.
BELOW_ALPHA = 1e-3


def spectrum_figure(record: Mapping[str, Any]) -> Figure:
    """The eigenvalues of the covariance of the answers, and what is added to each."""
    values, alpha = record["spectrum"], record["alpha"]
    figure, axes = new_figure(f"Eigenvalues of the {len(values)} × {len(values)} covariance", "index", size=SIZE)
    floor = BELOW_ALPHA * alpha
    heights = [max(value, floor) for value in values]
    colors = [PALETTE[0] if value > alpha else GREY for value in values]
    axes.bar(range(1, len(values) + 1), heights, color=colors, width=0.75, bottom=floor / 2)
    axes.axhline(
        alpha, color=PALETTE[2], linewidth=1.4, linestyle="--", label=f"α = {alpha:g}, added to each; grey: below it"
    )
    log_scale(axes, "y")
    axes.set_ylim(floor / 2, 10 * max(*heights, alpha))
    whole_numbers(axes)
    legend_below(axes, columns=1)
    return figure


def histogram_figure(calibration: Mapping[str, Any]) -> Figure:
    """EigenScore of the prompts, of right and of wrong answers apart where that is known, with the threshold."""
    figure, axes = new_figure("EigenScore of the calibration prompts", "EigenScore", size=SIZE)
    rows = calibration["rows"]
    groups = {"all prompts": (rows, PALETTE[0])}
    if rows[0]["right"] is not None:
        groups = {
            "answered rightly": ([row for row in rows if row["right"]], RIGHT),
            "answered wrongly": ([row for row in rows if not row["right"]], WRONG),
        }
    edges = histogram_edges([row["eigenscore"] for row in rows], calibration["threshold"])
    for name, (members, color) in groups.items():
        scores = [row["eigenscore"] for row in members]
        axes.hist(scores, edges, color=color, alpha=0.55, label=f"{name}: {len(members)}")
    axes.axvline(calibration["threshold"], color=INK, linewidth=1.6, linestyle="--", label="threshold")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(axes, columns=2)
    return figure


def histogram_edges(scores: Sequence[float], threshold: float, bins: int = 24) -> list[float]:
    """Edges of bars that cover scores and threshold, also where all scores are the same."""
    low, high = min(*scores, threshold), max(*scores, threshold)
    room = max(high - low, 1e-3)
    return [low + room * (1.001 * place / bins) for place in range(bins + 1)]


def roc_figure(calibration: Mapping[str, Any]) -> Figure | None:
    """Wrong answers caught against right ones lost; nothing where the answers are not of both kinds."""
    if not calibration["auroc"]:
        return None
    figure, axes = new_figure("Wrong answers caught, share", "right answers lost, share", size=SIZE)
    wrong = [not row["right"] for row in calibration["rows"]]
    looks = {"eigenscore": ("EigenScore", PALETTE[0], 2.2), "length_normalized_entropy": ("LN entropy", GREY, 1.4)}
    for name, (words, color, width) in looks.items():
        points = roc_points([row[name] for row in calibration["rows"]], wrong)
        named = f"{words}, area {calibration['auroc'][name]:.2f}"
        axes.plot(*zip(*points, strict=True), color=color, linewidth=width, label=named)
    above = [row["above_threshold"] for row in calibration["rows"]]
    caught = sum(a and w for a, w in zip(above, wrong, strict=True)) / sum(wrong)
    lost = sum(a and not w for a, w in zip(above, wrong, strict=True)) / (len(wrong) - sum(wrong))
    axes.plot([lost], [caught], "o", color=PALETTE[2], markersize=7, label="threshold")
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=1.0, linestyle=":")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    legend_below(axes, columns=2)
    return figure


def spectra_figure(found: Mapping[str, Any]) -> Figure:
    """The eigenvalues of a visitor's embeddings in every convention."""
    count = found["shape"][0]
    figure, axes = new_figure("Eigenvalues by convention", "index", size=SIZE)
    largest = max(max(entry["spectrum"]) for entry in found["conventions"].values()) or 1.0
    for color, name in zip(PALETTE, CONVENTIONS, strict=False):
        values = found["conventions"][name]["spectrum"]
        # what lies below rounding has no place on a logarithmic axis
        shown = [value if value > 1e-15 * largest else float("nan") for value in values]
        style = "--" if name == "send" else "-"  # the same matrix as in INSIDE's formula
        axes.plot(range(1, count + 1), shown, color=color, linestyle=style, marker="o", markersize=2.5, label=name)
    log_scale(axes, "y")
    whole_numbers(axes)
    legend_below(axes, columns=4)
    return figure


def whole_numbers(axes: Axes) -> None:
    """Ticks of the horizontal axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
