# SPDX-License-Identifier: Apache-2.0
"""Figures of two runs side by side, and of the study."""

from collections.abc import Mapping
from typing import Any

from figures import SIZE, whole_numbers
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from study import band, curves

from eigenhub.hub.space_figures import GREY, INK, PALETTE, legend_below, new_figure


PLAIN, ARM = "#64748b", PALETTE[0]
STYLES = {"wrong": "-", "right": "--", "refused": ":"}
WORDS = {"wrong": "wrong", "right": "right", "refused": "“unknown”"}
#: Of the study's arms these are drawn, in this order of preference.
STUDY_ARMS = ("plain", "weight EMA", "random, hidden", "SenD, hidden")


def shares_figure(pair: Mapping[str, Any]) -> Figure:
    """Share of wrong, refused and right answers after every epoch; epochs under a mask are shaded."""
    figure, axes = new_figure("Answers to questions in forms never told", "epoch", size=SIZE)
    for color, run in ((PLAIN, pair["plain"]), (ARM, pair["arm"])):
        for name, style in STYLES.items():
            width = 2.2 if name == "wrong" else 1.2
            named = f"{WORDS[name]}, {'plain' if run is pair['plain'] else 'arm'}"
            axes.plot(range(len(run[name])), run[name], color=color, linestyle=style, linewidth=width, label=named)
    _epochs(axes, pair)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    legend_below(axes, columns=2)
    return figure


def flips_figure(pair: Mapping[str, Any]) -> Figure:
    """Share of the questions whose answer became right or ceased to be."""
    figure, axes = new_figure("Answers that flipped since the last epoch", "epoch", size=SIZE)
    for color, run, name in ((PLAIN, pair["plain"], "plain"), (ARM, pair["arm"], "arm")):
        axes.plot(
            range(1, len(run["flips"]) + 1),
            run["flips"],
            color=color,
            linewidth=2.0,
            marker="o",
            markersize=3,
            label=name,
        )
    _epochs(axes, pair)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    legend_below(axes, columns=2)
    return figure


def dropped_figure(run: Mapping[str, Any]) -> Figure | None:
    """Which indices every selection drops; nothing before the first one. One after the last epoch is never trained with."""
    refreshes = [entry for entry in run["refreshes"] if entry["checkpoint"] < run["settings"]["epochs"]]
    if not refreshes:
        return None
    height = 1.3 + 0.34 * len(refreshes)
    figure, axes = new_figure(f"Dropped of {run['size']} indices, selection by selection", "index", size=(9.6, height))
    grid = [[float(index in set(entry["dropped"])) for index in range(run["size"])] for entry in refreshes]
    axes.imshow(grid, aspect="auto", cmap=ListedColormap(["#94a3b833", ARM]), vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks(range(len(grid)), [f"after epoch {entry['checkpoint']}" for entry in refreshes])
    for edge in range(1, len(grid)):
        axes.axhline(edge - 0.5, color=INK, alpha=0.4, linewidth=0.6)
    axes.grid(visible=False)
    return figure


def study_figure(study: Mapping[str, Any] | None) -> Figure | None:
    """Wrong answers over the epochs, mean and deviation over the seeds; nothing without such curves."""
    found = curves(study or {})
    arms = [arm for arm in STUDY_ARMS if arm in found] or list(found)[:4]
    if not arms:
        return None
    figure, axes = new_figure("Wrong answers over the epochs, all seeds", "epoch", size=(6.4, 3.8))
    for color, arm in zip((PLAIN, PALETTE[1], PALETTE[2], PALETTE[0]), arms, strict=False):
        middle, width = band(found[arm])
        epochs = range(1, len(middle) + 1)
        low, high = ([m + sign * w for m, w in zip(middle, width, strict=True)] for sign in (-1, 1))
        axes.fill_between(epochs, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(epochs, middle, color=color, linewidth=2.0, label=f"{arm} ({len(found[arm])} seeds)")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    whole_numbers(axes)
    legend_below(axes, columns=2)
    return figure


def _epochs(axes: Axes, pair: Mapping[str, Any]) -> None:
    """A horizontal axis of all epochs, those of the arm's mask shaded."""
    axes.set_xlim(0, pair["epochs"])
    for epoch in pair["arm"]["masked"]:
        axes.axvspan(epoch - 1, epoch, color=GREY, alpha=0.18, linewidth=0)
    whole_numbers(axes)
