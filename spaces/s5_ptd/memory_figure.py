# SPDX-License-Identifier: Apache-2.0
"""Memory and time over the length of a text."""

from typing import TYPE_CHECKING

from writers import Written

from eigenhub.hub.space_figures import GREY, PALETTE, legend_below, new_figure


if TYPE_CHECKING:
    from matplotlib.figure import Figure


def memory_figure(found: Written) -> "Figure":
    """
    Bytes of the state beside those of a transformer's keys and values.

    Args:
        found (`Written`): what was measured.
    """
    figure, axes = new_figure("KiB that are kept between two tokens", "tokens read and written")
    state = [size / 1024 for size in found.state_bytes]
    attention = [size / 1024 for size in found.attention_bytes]
    axes.plot(found.tokens, attention, color=GREY, marker="o", markersize=3.5, label="keys and values, same size")
    axes.plot(found.tokens, state, color=PALETTE[0], marker="o", markersize=3.5, label="state of this model")
    axes.set_ylim(bottom=0)
    legend_below(axes, columns=2)
    return figure


def time_figure(found: Written) -> "Figure":
    """
    Milliseconds per token, piece by piece.

    Args:
        found (`Written`): what was measured.
    """
    figure, axes = new_figure("Milliseconds per token", "tokens read and written")
    axes.plot(found.tokens, [1000 * t for t in found.seconds], color=PALETTE[0], marker="o", markersize=3.5)
    axes.set_ylim(bottom=0)
    return figure
