# SPDX-License-Identifier: Apache-2.0
"""Figures of a run, of several runs, and of the pair."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eigenhub.hub.space_figures import GREY, INK, PALETTE, legend_below, log_scale, new_figure


#: One for each client, in the order of their names.
COLORS = (*PALETTE, "#0f766e", "#a16207", "#be185d", "#475569")
#: One for each digit: neighbours differ.
DIGIT_COLORS = (*PALETTE[:5], "#84cc16", "#a78bfa", "#f87171", "#fbbf24", "#94a3b8")
KIB = 1024
#: What lies below this on a logarithmic axis is drawn here.
SMALLEST = 1e-17


def split_figure(counts: Mapping[str, Sequence[int]], alpha: float) -> Figure:
    """How many of each digit every client has."""
    figure, axes = new_figure(f"Digits of each client, α = {alpha:.3g}", "images", size=(4.8, 3.6))
    left = [0] * len(counts)
    for digit, color in enumerate(DIGIT_COLORS):
        widths = [row[digit] for row in counts.values()]
        axes.barh(list(counts), widths, left=left, color=color, height=0.75, label=str(digit))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.grid(visible=False)
    figure.legend(
        loc="outside lower center",
        ncols=10,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=0.8,
        columnspacing=0.7,
        handletextpad=0.3,
    )
    return figure


def accuracy_figure(record: Mapping[str, Any]) -> Figure:
    """Accuracy over the rounds: on the test digits, and on the rows that each client keeps."""
    figure, axes = new_figure("Accuracy", "round", size=(4.8, 3.6))
    for color, (name, values) in zip(COLORS, record["client_accuracy"].items(), strict=False):
        axes.plot(range(len(values)), values, color=color, linewidth=1.0, alpha=0.75, label=name)
    values = record["accuracy"]
    axes.plot(range(len(values)), values, color=INK, linewidth=2.6, marker="o", markersize=3, label="test digits")
    axes.set_xlim(0, record["settings"]["rounds"])
    whole_numbers(axes)
    axes.set_ylim(0, 1.02)
    legend_below(axes, columns=4)
    return figure


def singular_figure(record: Mapping[str, Any], layer: str) -> Figure:
    """The singular values of one layer's change over the rounds, the largest on top."""
    figure, axes = new_figure(f"Singular values of the change: {layer}", "round", size=(4.8, 3.6))
    rows = record["singular_values"].get(layer, [])
    rounds = range(1, len(rows) + 1)
    for place in range(max(map(len, rows), default=0)):
        # a value of zero has no place on a logarithmic axis: the line begins when it has grown
        values = [row[place] if place < len(row) and row[place] > SMALLEST else math.nan for row in rows]
        alpha = 1.0 - 0.09 * place
        axes.plot(rounds, values, color=PALETTE[0], alpha=alpha, linewidth=1.6, marker="o", markersize=2.5)
    axes.set_xlim(0, record["settings"]["rounds"])
    whole_numbers(axes)
    scale_y(axes, [value for row in rows for value in row])
    return figure


def epsilon_figure(record: Mapping[str, Any]) -> Figure | None:
    """What every client has spent, and the target; nothing without differential privacy."""
    if not record["epsilon"]:
        return None
    figure, axes = new_figure("ε spent by each client", "ε", size=(4.8, 3.6))
    spent = {name: values[-1] for name, values in record["epsilon"].items()}
    axes.barh(list(spent), list(spent.values()), color=COLORS[: len(spent)], height=0.7)
    target = record["settings"]["epsilon"]
    axes.axvline(target, color=PALETTE[7], linewidth=1.6, linestyle="--", label=f"target, never exceeded: {target:g}")
    axes.set_xlim(0, 1.08 * target)
    axes.invert_yaxis()
    axes.grid(visible=False)
    legend_below(axes, columns=1)
    return figure


def bytes_figure(record: Mapping[str, Any]) -> Figure:
    """What was sent so far in both directions, and what plain averaging of both factors would have sent."""
    figure, axes = new_figure("Sent so far, KiB", "round", size=(4.8, 3.6))
    lines = {
        "up": ("upload_bytes", PALETTE[0], "to the server"),
        "down": ("download_bytes", PALETTE[1], "to the clients"),
    }
    for key, color, words in lines.values():
        values = [count / KIB for count in record[key]]
        plain = [count / KIB for count in record[f"plain_{key}"]]
        axes.plot(range(len(plain)), plain, color=color, linewidth=3.2, alpha=0.3, label=f"{words}, plain LoRA")
        axes.plot(range(len(values)), values, color=color, linewidth=1.6, label=words)
    axes.set_xlim(0, record["settings"]["rounds"])
    whole_numbers(axes)
    axes.set_ylim(bottom=0)
    legend_below(axes, columns=2)
    return figure


def comparison_figure(records: Sequence[Mapping[str, Any]], over: str) -> Figure:
    """Accuracy of several runs over the rounds, or over what their clients have sent."""
    by_bytes = over == "bytes"
    label = "KiB from clients to server" if by_bytes else "round"
    figure, axes = new_figure("Accuracy on the test digits", label, size=(6.4, 3.8))
    for place, record in enumerate(records):
        values = record["accuracy"]
        x = [count / KIB for count in record["upload_bytes"]] if by_bytes else range(len(values))
        axes.plot(x, values, color=run_color(place), linewidth=1.7, marker="o", markersize=2.5)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    whole_numbers(axes)
    return figure


def run_color(place: int) -> str:
    """Of a run in the figure and in the table; they repeat after twelve."""
    return COLORS[place % len(COLORS)]


def pair_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy of two runs: a broad and a narrow line, so that one on the other shows both."""
    figure, axes = new_figure("Accuracy on the test digits", "round", size=(4.8, 3.6))
    looks = ({"color": PALETTE[0], "linewidth": 4.5, "alpha": 0.4}, {"color": PALETTE[3], "linewidth": 1.6})
    for record, look in zip(records, looks, strict=True):
        axes.plot(range(len(record["accuracy"])), record["accuracy"], label=record["label"], **look)
    axes.set_xlim(0, records[0]["settings"]["rounds"])
    whole_numbers(axes)
    axes.set_ylim(0, 1.02)
    legend_below(axes, columns=1)
    return figure


def distance_figure(distances: Sequence[float], rounds: int) -> Figure:
    """How far two runs are apart after every round."""
    figure, axes = new_figure("Relative difference of their changes", "round", size=(4.8, 3.6))
    values = [max(value, SMALLEST) for value in distances]
    axes.plot(range(1, len(values) + 1), values, color=PALETTE[2], linewidth=1.8, marker="o", markersize=3.5)
    axes.axhline(1e-5, color=GREY, linewidth=1.2, linestyle="--", label="what single precision leaves: below 10⁻⁵")
    axes.set_xlim(0, rounds)
    whole_numbers(axes)
    axes.set_ylim(SMALLEST, 10)
    log_scale(axes, "y")
    legend_below(axes, columns=1)
    return figure


def spectra_figure(spectra: Mapping[str, Sequence[float]], layer: str) -> Figure:
    """Singular values of every layer of an adapter, one of them in colour."""
    figure, axes = new_figure("Singular values of B A", "index", size=(4.8, 3.6))
    for name, values in spectra.items():
        shown = [value if value > 0 else math.nan for value in values]
        look = (
            {"color": PALETTE[0], "linewidth": 2.2, "zorder": 3}
            if name == layer
            else {"color": GREY, "linewidth": 0.8}
        )
        axes.plot(range(1, len(shown) + 1), shown, marker="o", markersize=2.5, **look)
    scale_y(axes, [value for values in spectra.values() for value in values])
    whole_numbers(axes)
    return figure


def condition_figure(before: Sequence[float], after: Sequence[float]) -> Figure:
    """The condition number of A in every layer, as it came and refactored."""
    figure, axes = new_figure("κ(A), layer by layer", "layer", size=(4.8, 3.6))
    places = range(1, len(before) + 1)
    known = [value if math.isfinite(value) else math.nan for value in before]
    axes.plot(places, known, "o", color=PALETTE[2], markersize=4, label="as it came")
    axes.plot(places, after, "o", color=PALETTE[0], markersize=4, label="refactored")
    scale_y(axes, known)
    whole_numbers(axes)
    legend_below(axes, columns=2)
    return figure


def scale_y(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where values span enough decades to label it well; else one from zero."""
    positive = [value for value in values if math.isfinite(value) and value > SMALLEST]
    if positive and max(positive) > 50 * min(positive):
        log_scale(axes, "y")
    else:
        axes.set_ylim(bottom=0)


def whole_numbers(axes: Axes) -> None:
    """Ticks of the horizontal axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
