# SPDX-License-Identifier: Apache-2.0
"""The endpoints. Types and docstrings become the description of the API.

The functions import what computes when they run, so the page opens long before torch is loaded.
"""

from typing import Any

import gradio as gr
from names import MAX_DIRECTIONS, SHAPES, STRIP_FRAMES
from PIL import Image
from visits import Choice, Visit

from eigenhub.hub.space import on_gpu
from eigenhub.hub.space_events import shown_to_visitor


@on_gpu
def sample(
    model: str = SHAPES, first: int = 0, count: int = 12, psi: float = 0.7, noise: str = "const", label: int = 0
) -> list[tuple[Image.Image, str]]:
    """Draw samples of a generator, each by its own number.

    Args:
        model: "embedded:shapes", "embedded:shapes-unprojected", a Hub id or a folder of a stylegan2 model.
        first: Number of the first sample.
        count: Number of samples, 1 to 32.
        psi: Truncation, 0 to 1.5: smaller is closer to the mean.
        noise: "const", "random" or "none".
        label: Class, for conditional generators.

    Returns:
        Images of up to 512 pixels with their numbers.
    """
    from computing import load_images

    choice = Choice.of(model, first, psi, noise, label, None, None, "ws", None)
    if not 1 <= int(count) <= 32:
        raise gr.Error(f"The number of samples must be between 1 and 32, got {count}.")
    return load_images(choice, int(count))


@on_gpu
def traverse(
    model: str = SHAPES,
    layer: str = "",
    direction: int = 0,
    number: int = 0,
    psi: float = 0.7,
    basis: str = "",
    edit: str = "ws",
    reach: float = 0.0,
    frames: int = STRIP_FRAMES,
    noise: str = "const",
    label: int = 0,
    unprojected: str = "",
) -> tuple[list[tuple[Image.Image, str]], str]:
    """Move one sample along one direction of one layer.

    Args:
        model: As for `sample`.
        layer: Such as "b8.conv0", or several such as "b8.conv0+b8.conv1" that move together; empty for the first one with directions.
        direction: Number of the direction, from 0.
        number: Number of the sample.
        psi: Truncation, 0 to 1.5.
        basis: "parameter", "jacobian", "svd", "aligned" or "sefa"; several layers have "svd" and "sefa". Empty for the first one allowed.
        edit: "ws" (the latent of the layer, as published) or "style" (its style alone).
        reach: Where to stop on both sides, in units of the style; 0 for the reach of the page's sliders.
        frames: Number of images, 2 to 41.
        noise: "const", "random" or "none".
        label: Class, for conditional generators.
        unprojected: The same generator before projection, for the basis "aligned".

    Returns:
        Images with their steps from one end to the other, and the file of a GIF.
    """
    from computing import traversal

    choice = Choice.of(model, number, psi, noise, label, layer, basis, edit, unprojected)
    if not 2 <= int(frames) <= 41:
        raise gr.Error(f"The number of frames must be between 2 and 41, got {frames}.")
    if not 0 <= float(reach) <= 1000:
        raise gr.Error(f"The reach must be between 0 and 1000, got {reach}.")
    if not 0 <= int(direction) < MAX_DIRECTIONS:
        raise gr.Error(f"The direction must be between 0 and {MAX_DIRECTIONS - 1}, got {direction}.")
    with shown_to_visitor("This traversal cannot be drawn"):
        return traversal(choice, int(direction), float(reach), int(frames))


@on_gpu
def directions(
    model: str = SHAPES, layer: str = "", basis: str = "", edit: str = "ws", unprojected: str = ""
) -> dict[str, Any]:
    """Tell the editing directions of a layer and what each of them does to images.

    Args:
        model: As for `sample`.
        layer: As for `traverse`.
        basis: As for `traverse`.
        edit: "ws" or "style".
        unprojected: As for `traverse`.

    Returns:
        layer, basis, layers (all that have directions), ranges (of the page's menu), bases (that are allowed there), reach (of the sliders), vectors (one per
        direction), scores, effects (mean change of a pixel by half of the reach, as a share of its range), dead, and factors
        (for the embedded generators: mean change of each known factor, as a share of its range).
    """
    from computing import directions_record

    choice = Choice.of(model, 0, 0.7, "const", 0, layer, basis, edit, unprojected)
    with shown_to_visitor("These directions cannot be found"):
        return directions_record(choice, Visit())


def convert(file: str | None, rank: int = 10) -> tuple[str, dict[str, Any]]:
    """Convert a checkpoint of NVIDIA's, rosinality's or the official projector code without running what it brings.

    Args:
        file: A .pkl or .pt; up to 1 GiB.
        rank: Rank of official projectors, which their file does not tell.

    Returns:
        An archive with the folder for `from_pretrained`, and networks, resolution, channels, classes, parameters,
        projected_layers, rank.
    """
    from computing import convert as run

    if not file:
        raise gr.Error("Upload a checkpoint first.")
    if not 1 <= int(rank) <= 512:
        raise gr.Error(f"The rank must be between 1 and 512, got {rank}.")
    with shown_to_visitor("This file was not converted"):
        archive, _, report = run(file, int(rank))
    return archive, report
