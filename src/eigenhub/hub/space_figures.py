# SPDX-License-Identifier: Apache-2.0
"""Figures in the look of the Spaces: legible on the light and on the dark theme, on a desktop and on a phone.

Visitors have their figures drawn in threads, and matplotlib's parser of formulas is not safe there: no label contains a
formula, the powers of ten on logarithmic axes included.
"""

import math
from typing import TYPE_CHECKING, Any, Literal


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#4f46e5", "#0d9488", "#d97706", "#db2777", "#0284c7", "#65a30d", "#7c3aed", "#dc2626")
GREY = "#94a3b8"
INK = "#7c8698"  # legible on both themes; the ground stays transparent


def new_figure(title: str, x_label: str, size: tuple[float, float] = (4.3, 3.4)) -> "tuple[Figure, Axes]":
    """
    A figure with one pair of axes.

    Args:
        title (`str`): what is drawn, at the top left in place of a label of the vertical axis.
        x_label (`str`): label of the horizontal axis.
        size (`tuple[float, float]`, *optional*, defaults to `(4.3, 3.4)`): in inches; what is wide shrinks on a phone.
    """
    from matplotlib.figure import Figure

    # Not through pyplot: a figure of its own is safe in threads and needs no closing.
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.set_xlabel(x_label, color=INK, fontsize=10)
    axes.tick_params(colors=INK, labelsize=9, which="both")
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return figure, axes


def legend_below(axes: "Axes", columns: int) -> None:
    """The names of the lines below the axes.

    Args:
        axes (`Axes`): of [`new_figure`].
        columns (`int`): names side by side.
    """
    axes.figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)


def log_scale(axes: "Axes", *which: Literal["x", "y"]) -> None:
    """Logarithmic axes, their decades labelled without a formula.

    Args:
        axes (`Axes`): of [`new_figure`].
        which (`Literal["x", "y"]`): one axis or both.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for name in which:
        axis: Any = axes.xaxis if name == "x" else axes.yaxis
        axes.set(**{f"{name}scale": "log"})
        axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(math.log10(value))))
        axis.set_minor_formatter(NullFormatter())


def power_of_ten(exponent: float) -> str:
    """Such as `10⁻³`.

    Args:
        exponent (`float`): rounded to an integer.
    """
    return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
