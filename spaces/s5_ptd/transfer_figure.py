# SPDX-License-Identifier: Apache-2.0
"""How loud each initialisation is beside exact HiPPO, by frequency: exact mathematics, no training."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigenhub.hub.space_figures import PALETTE, legend_below, log_scale, new_figure
from eigenhub.linalg.hippo import (
    gain_peaks,
    hippo_legs,
    legs_state_response,
    lowrank_gain,
    ptd_diagonalize,
    transfer_function,
)


if TYPE_CHECKING:
    from matplotlib.figure import Figure

TAU = 0.1
#: Initialisation to its name in the legend and its colour.
LINES = {
    "legs": ("diagonal part only (S4D-LegS, S5)", PALETTE[7]),
    "ptd": ("PTD, optimised", PALETTE[0]),
    "lowrank": (f"PTD, low rank (τ = {TAU:g})", PALETTE[1]),
}


def relative_gain(init: str, order: int, frequencies: Tensor) -> Tensor:
    r"""
    $\lVert (i\omega - A')^{-1} B' \rVert / \lVert (i\omega - A)^{-1} B \rVert$, for `"legs"` and `"lowrank"` equal to the
    ratio of the transfer functions for every output.

    Args:
        init (`str`): `"legs"` (with B / 2), `"lowrank"` (with B scaled by 1 - τ/2) or `"ptd"`.
        order (`int`): n.
        frequencies (`Tensor` of shape `(points,)`): ω, in radians per unit of time.
    """
    if init == "legs":
        return lowrank_gain(order, frequencies, tau=1.0)
    if init == "lowrank":
        return lowrank_gain(order, frequencies, tau=TAU)
    a, b, _ = hippo_legs(order)
    s = 1j * frequencies.double()
    perturbed = transfer_function(a + ptd_diagonalize(order).E, b, None, s)
    return torch.linalg.vector_norm(perturbed, dim=-1) / torch.linalg.vector_norm(
        legs_state_response(order, s), dim=-1
    )


def frequency_grid(order: int, points: int = 1500) -> Tensor:
    """Frequencies up to ten times the largest resonance, denser around every resonance of the diagonal part."""
    peaks, _ = gain_peaks(order, order // 2)
    even = torch.logspace(-1, torch.log10(10 * peaks[0]).item(), points, dtype=torch.float64)
    near = (peaks[:, None] + torch.linspace(-3, 3, 61, dtype=torch.float64)).flatten()
    return torch.cat([even, near[near > 0.1]]).sort().values


def transfer_figure(order: int, noise: float | None = None) -> "Figure":
    """
    The gains of all initialisations over the frequency.

    Args:
        order (`int`): n.
        noise (`float`, *optional*): a frequency to be marked.
    """
    figure, axes = new_figure(
        f"Gain beside exact HiPPO, n = {order}", "frequency ω (rad per unit of time)", (5.2, 3.6)
    )
    frequencies = frequency_grid(order)
    for init, (label, colour) in LINES.items():
        axes.plot(frequencies, relative_gain(init, order, frequencies), color=colour, linewidth=1.3, label=label)
    if noise is not None:
        axes.axvline(noise, color=PALETTE[2], linewidth=0.9, linestyle="--", label="the noise")
    log_scale(axes, "x", "y")
    axes.set_xlim(frequencies[0].item(), frequencies[-1].item())
    legend_below(axes, columns=2)
    return figure


def save_transfer_figure(path: Path, order: int = 64) -> None:
    """
    The figure on white ground, for a page.

    Args:
        path (`Path`): PNG or SVG file.
        order (`int`, *optional*, defaults to 64): n.
    """
    transfer_figure(order).savefig(path, facecolor="white")
