# SPDX-License-Identifier: Apache-2.0
"""What the noise does to the accuracy, and what it looks like."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from classifiers import AMPLITUDES, REPEAT
from names import FREQUENCIES, INITS
from torch import Tensor
from transfer_figure import LINES

from eigenhub.embedded.sequential_digits import enlarge, raster
from eigenhub.hub.space_figures import GREY, INK, PALETTE, legend_below, new_figure
from eigenhub.models.s5_ptd import FourierNoise


if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_STEP = 0.005  # time step of a channel that hears the noise as it is


def accuracy_figure(curves: Mapping[str, Mapping[str, list[float]]], where: str, amplitude: float) -> "Figure":
    """
    Accuracy over amplitude of the three embedded classifiers.

    Args:
        curves (`Mapping`): initialisation to frequency to accuracies.
        where (`str`): key of `names.FREQUENCIES`.
        amplitude (`float`): to be marked.
    """
    figure, axes = new_figure(f"Accuracy, noise {FREQUENCIES[where]}", "amplitude of the noise")
    for init, label in INITS.items():
        shares = [100 * share for share in curves[init][where]]
        axes.plot(AMPLITUDES, shares, color=LINES[init][1], marker="o", markersize=3.5, label=label)
    axes.axhline(10, color=INK, linewidth=0.8, linestyle=":")
    axes.axvline(amplitude, color=GREY, linewidth=0.9, linestyle="--")
    axes.set(ylim=(0, 102), yticks=range(0, 101, 20))
    axes.set_yticklabels([f"{value} %" for value in range(0, 101, 20)])
    legend_below(axes, columns=1)
    return figure


def sequence_figure(digit: Tensor, amplitude: float, omega: float) -> "Figure":
    """
    A digit as the sequence that the models read, and the same with noise.

    Args:
        digit (`Tensor` of shape `(1, 8, 8)`): values in [-1, 1].
        amplitude (`float`): of the noise.
        omega (`float`): its frequency.
    """
    clean = raster(enlarge(digit, REPEAT)[None])
    noisy = FourierNoise(amplitude, omega)(clean, torch.tensor([SHOWN_STEP]))
    figure, axes = new_figure("The digit as a sequence, with noise on it", "pixel, row after row")
    axes.plot(noisy[0, :, 0], color=PALETTE[2], linewidth=0.8, label="with noise")
    axes.plot(clean[0, :, 0], color=PALETTE[0], linewidth=1.2, label="clean")
    legend_below(axes, columns=2)
    return figure
