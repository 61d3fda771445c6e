# SPDX-License-Identifier: Apache-2.0
"""Figures of the page, except for the race, which the browser draws."""

from collections.abc import Sequence

import numpy as np
from braking import HYBRID_STEPS, Braking, hybrid
from captured import Captured
from matplotlib.figure import Figure
from names import BASES

from eigenhub.hub.space_figures import GREY, INK, PALETTE, legend_below, log_scale, new_figure
from eigenhub.optim import brake_bounds


GIB = 2**30
BASIS_COLORS = dict(zip(BASES, (PALETTE[7], PALETTE[0], PALETTE[4], PALETTE[1], PALETTE[2]), strict=True))
#: Entries of the largest matrix of the figure of the brake, 4096 x 4096.
LARGEST = 2**24
#: What lies below this on a logarithmic axis is drawn here.
SMALLEST = 1e-9


def energy_figure(captured: Captured, rank: int) -> Figure:
    """Captured energy over the number of directions, and how far random bases spread."""
    figure, axes = new_figure("Share of the energy in r directions", "r", size=(4.8, 4.0))
    r = np.arange(1, captured.width + 1)
    low, high = captured.chance.aminmax(dim=0)
    axes.fill_between(r, low, high, color=BASIS_COLORS["random"], alpha=0.18, linewidth=0)
    for kind, curve in captured.curves.items():
        axes.plot(r, curve, color=BASIS_COLORS[kind], linewidth=1.6, label=BASES[kind])
    axes.plot(r, r / captured.width, color=INK, linewidth=0.8, linestyle="--", label="r / n")
    axes.axvline(rank, color=INK, linewidth=0.8)
    axes.set_xlim(0, captured.width)
    axes.set_ylim(0, 1.02)
    legend_below(axes, columns=3)
    return figure


def memory_figure(records: Sequence[dict]) -> Figure:
    """Bytes of state of every optimizer: of the matrices, and of everything else."""
    figure, axes = new_figure("Optimizer state, GiB", "", size=(4.8, 4.0))
    names = [record["optimizer"].replace(", feedback", ",") for record in records]
    matrices = [record["matrix_bytes"] / GIB for record in records]
    others = [record["other_bytes"] / GIB for record in records]
    colors = [PALETTE[0] if name.startswith("DCT") else PALETTE[4] for name in names]
    axes.barh(names, matrices, color=colors, height=0.7)
    axes.barh(names, others, left=matrices, color=GREY, height=0.7, label="of this, everything that is no matrix")
    for place, total in enumerate(map(sum, zip(matrices, others, strict=True))):
        axes.text(total, place, f" {total:.3g}", color=INK, fontsize=8, va="center")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False)
    legend_below(axes, columns=1)
    return figure


def brake_figure(gamma: float, entries: int, rho: float) -> Figure:
    """How far the brake can be from one, over the size of square matrices, and where this matrix stands."""
    figure, axes = new_figure("Brake − 1, smallest to largest possible", "entries of the matrix")
    sizes = np.geomspace(1, LARGEST, 40)
    bounds = np.array([brake_bounds(int(size), gamma) for size in sizes]) - 1
    low, high = np.maximum(bounds, SMALLEST).T
    axes.fill_between(sizes, low, high, color=PALETTE[0], alpha=0.25, linewidth=0)
    axes.plot(sizes, high, color=PALETTE[0], linewidth=1.2)
    axes.plot(sizes, low, color=PALETTE[0], linewidth=1.2)
    axes.plot([entries], [max(rho - 1, SMALLEST)], "o", color=PALETTE[3], markersize=7, label="this matrix")
    log_scale(axes, "x", "y")
    legend_below(axes, columns=1)
    return figure


def singular_figure(braking: Braking) -> Figure:
    """Singular values of the momentum and of every update."""
    figure, axes = new_figure("Singular values of the update", "index")
    looks = {
        "momentum": (GREY, 1.0, 3.2, "-"),
        "AuON": (PALETTE[4], 1.0, 1.4, "-"),
        "Muon": (PALETTE[3], 1.0, 1.6, "--"),
    }
    for k in HYBRID_STEPS:  # the more iterations, the darker
        looks[hybrid(k)] = (PALETTE[0], 0.2 + 0.8 * k / HYBRID_STEPS[-1], 1.2, "-")
    for name, values in braking.values.items():
        color, alpha, width, line = looks[name]
        look = {"color": color, "alpha": alpha, "linewidth": width, "linestyle": line}
        marker = "o" if len(values) == 1 else None
        axes.plot(range(1, len(values) + 1), values.clamp(min=SMALLEST), label=name, marker=marker, **look)
    log_scale(axes, "y")
    legend_below(axes, columns=2)
    return figure
