# SPDX-License-Identifier: Apache-2.0
"""What the demo of the Householder projector shows: a table of the arms, and images along directions side by side."""

from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from planted import LAYERS, RANK, VARIED
from torch import Tensor

from eigenhub.metrics.disentanglement import Effects
from eigenhub.models.stylegan2 import StyleGAN2Generator


FRAMES = 7


def print_table(measures: dict[str, dict[str, Any]]) -> None:
    """Test error, what the affines read beside the planted factors, and how close they come to those.

    Args:
        measures (`dict[str, dict]`): by title, see `planted_measures.measured`.
    """
    layers = "".join(f"{name:>11}" for name in LAYERS)
    print(f"\n{'':34}{'test':>8}   energy outside of the planted span, %{'':19}cosines")
    print(f"{'':34}{'MSE':>8}{layers}{'mean':>10}")
    for title, found in measures.items():
        outside = "".join(f"{100 * found['outside'][name]:11.1f}" for name in LAYERS)
        near = mean(mean(found["cosines"][name][:3]) for name in LAYERS)
        print(f"{title:34}{found['mse']:8.4f}{outside}{near:10.3f}")
    print(
        f"cosines: of the three smallest principal angles between what a layer reads and the {RANK} planted directions, mean over "
        "them and the\nlayers. An ordinary affine is scaled by 1/sqrt(32) when it is used: at lr x 5.7 its steps are as large as "
        "those of a projector's vectors."
    )


def main_factor(effects: Effects, k: int) -> tuple[str, float]:
    """The factor that a direction changes most, and its share of all changes.

    Args:
        effects ([`Effects`]): of all directions.
        k (`int`): number of the direction.
    """
    row = effects.matrix[k]
    share, number = (row / row.sum().clamp(min=1e-12)).max(0)
    return VARIED[int(number)], float(share)


def strips(
    model: StyleGAN2Generator, layer: str, vectors: Tensor, latent: Tensor, steps: Tensor, frames: int = FRAMES
) -> Tensor:
    """Images along every direction, from minus to plus its own step.

    Args:
        model ([`StyleGAN2Generator`]): a generator.
        layer (`str`): whose style moves.
        vectors (`Tensor` of shape `(w_dim, count)`): directions.
        latent (`Tensor` of shape `(w_dim,)`): where to start.
        steps (`Tensor` of shape `(count,)`): how far to go, in `w`.
        frames (`int`, *optional*, defaults to 7): images per direction.

    Returns:
        `Tensor` of shape `(count, frames, 3, side, side)`.
    """
    ws = latent.expand(1, model.config.num_ws, -1)
    rows = []
    for k, step in enumerate(steps.tolist()):
        alphas = torch.linspace(-step, step, frames)
        rows.append(model.traverse(ws, layer, k, alphas, edit="style", unit="w", directions=vectors)[0])
    return torch.stack(rows)


def draw(panels: dict[str, tuple[Tensor, Effects]], path: Path) -> None:
    """Strips side by side, every row with the factor that it changes most.

    Args:
        panels (`dict[str, tuple]`): strips and effects by title.
        path (`Path`): image to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(6.2 * len(panels), 5), layout="constrained", squeeze=False)
    for axis, (title, (images, effects)) in zip(axes[0], panels.items(), strict=True):
        axis.imshow(tiled(images), interpolation="nearest")
        side = images.shape[-1]
        named = [main_factor(effects, k) for k in range(len(images))]
        axis.set_yticks(
            [side * (k + 0.5) for k in range(len(images))], [f"{name}, {100 * share:.0f} %" for name, share in named]
        )
        axis.set_xticks([])
        axis.set_title(title)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def tiled(images: Tensor) -> np.ndarray:
    """One picture of rows of images, in [0, 1].

    Args:
        images (`Tensor` of shape `(rows, columns, 3, side, side)`): in [-1, 1].
    """
    rows, columns, channels, side, _ = images.shape
    picture = images.permute(0, 3, 1, 4, 2).reshape(rows * side, columns * side, channels)
    return ((picture + 1) / 2).clamp(0, 1).numpy()
