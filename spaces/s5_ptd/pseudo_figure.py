# SPDX-License-Identifier: Apache-2.0
"""Pseudospectra: how far eigenvalues move under small changes of a matrix, drawn as level lines of a smallest singular value."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from names import MATRICES
from torch import Tensor
from transfer_figure import TAU

from eigenhub.hub.space_figures import INK, PALETTE, new_figure, power_of_ten
from eigenhub.linalg.hippo import eigenvector_condition, hippo_legs, legs_normal_part, ptd_diagonalize


if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 72
LEVELS = (-10, -8, -6, -4, -3, -2, -1, 0)


@dataclass(frozen=True)
class Pseudospectrum:
    """
    A matrix in the plane of its eigenvalues.

    Args:
        real (`Tensor` of shape `(points,)`): abscissae.
        imaginary (`Tensor` of shape `(points,)`): ordinates.
        log_distance (`Tensor` of shape `(points, points)`):
            log10 of the smallest singular value of zI - A: the size of the smallest change that makes z an eigenvalue.
        eigenvalues (`Tensor` of shape `(n,)`): what the library computes.
        kappa (`float`): condition number of the eigenvectors, infinite where it cannot be computed.
    """

    real: Tensor
    imaginary: Tensor
    log_distance: Tensor
    eigenvalues: Tensor
    kappa: float


def matrix_of(name: str, order: int) -> Tensor:
    """A matrix of `names.MATRICES`."""
    a, _, p = hippo_legs(order)
    if name == "ptd":
        return a + ptd_diagonalize(order).E
    return {"hippo": a, "legs": legs_normal_part(order), "lowrank": a + TAU * torch.outer(p, p)}[name]


@lru_cache(maxsize=16)
def pseudospectrum(name: str, order: int) -> Pseudospectrum:
    """
    The pseudospectrum of a matrix on a window that shows its eigenvalues of small imaginary part.

    Args:
        name (`str`): key of `names.MATRICES`.
        order (`int`): n.
    """
    matrix = matrix_of(name, order)
    values, vectors = torch.linalg.eig(matrix)
    real = torch.linspace(-1.15 * order, 0.25 * order, POINTS, dtype=torch.float64)
    imaginary = torch.linspace(-0.8 * order, 0.8 * order, POINTS, dtype=torch.float64)
    z = torch.complex(real[None, :].expand(POINTS, -1), imaginary[:, None].expand(-1, POINTS))
    eye = torch.eye(order, dtype=torch.complex128)
    smallest = torch.stack([torch.linalg.svdvals(row[:, None, None] * eye - matrix)[:, -1] for row in z])
    kappa = eigenvector_condition(vectors).item()
    return Pseudospectrum(real, imaginary, smallest.clamp_min(1e-16).log10(), values, kappa)


def pseudospectrum_figure(name: str, order: int) -> "Figure":
    """
    Level lines, and the eigenvalues on them.

    Args:
        name (`str`): key of `names.MATRICES`.
        order (`int`): n.
    """
    found = pseudospectrum(name, order)
    figure, axes = new_figure(MATRICES[name], "real part", (4.3, 3.9))
    depth = np.asarray(found.log_distance)
    colours = figure_colours(len(LEVELS))
    lines = axes.contour(found.real, found.imaginary, depth, levels=LEVELS, colors=colours, linewidths=0.9)
    axes.clabel(lines, fmt=power_of_ten, fontsize=7)
    axes.plot(found.eigenvalues.real, found.eigenvalues.imag, "o", color=PALETTE[7], markersize=3)
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(found.real[0], found.real[-1]), ylim=(found.imaginary[0], found.imaginary[-1]))
    axes.set_ylabel("imaginary part", color=INK, fontsize=10)
    return figure


def figure_colours(count: int) -> list[str]:
    """From light to dark indigo: the smaller the change, the darker its line."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    shades = LinearSegmentedColormap.from_list("shades", ["#3730a3", "#a5b4fc"])
    return [to_hex(shades(i / (count - 1))) for i in range(count)]
