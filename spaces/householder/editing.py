# SPDX-License-Identifier: Apache-2.0
"""Samples and their edits, as bytes for the page; what was drawn lately is kept."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from finding import Found, unit_steps
from generators import generator, start
from pictures import CELL_SIDE, LARGE_SIDE
from rendering import edited, to_bytes
from torch import Tensor
from visits import Choice, Shift


def along(
    choice: Choice,
    found: Found,
    steps: Sequence[Sequence[float]],
    kept: tuple[Shift, ...] = (),
    side: int = CELL_SIDE,
) -> Tensor:
    """
    Images of one sample, one per row of steps.

    Args:
        choice (`Choice`): sample and layer.
        found (`Found`): directions of that layer.
        steps (`Sequence[Sequence[float]]`): for each image the step along each direction, in units of the style.
        kept (`tuple[Shift, ...]`, *optional*, defaults to `()`): edits made before.
        side (`int`, *optional*, defaults to 128): largest side of the images.
    """
    return _along(choice, found, tuple(tuple(map(float, row)) for row in steps), kept, side)


@lru_cache(maxsize=32)
def _along(
    choice: Choice, found: Found, steps: tuple[tuple[float, ...], ...], kept: tuple[Shift, ...], side: int
) -> Tensor:
    model = generator(choice.model)
    ws = start(model, [choice.number], choice.psi, choice.label).expand(len(steps), -1, -1)
    moved = torch.tensor(steps, device=ws.device) @ unit_steps(model, found).mT
    return to_bytes(edited(model, ws, [*_before(kept), (found.layer, choice.edit, moved)], choice.noise), side)


def shift_of(choice: Choice, found: Found, steps: Sequence[float]) -> Shift:
    """The edit of the sliders, to be kept."""
    directions = unit_steps(generator(choice.model), found)
    vector = directions @ torch.tensor(list(map(float, steps)), device=directions.device)
    return Shift(found.layer, choice.edit, tuple(vector.tolist()))


@lru_cache(maxsize=32)
def unedited(choice: Choice, kept: tuple[Shift, ...] = ()) -> Tensor:
    """The image of a sample, with the edits that stay, `(channels, height, width)`."""
    model = generator(choice.model)
    ws = start(model, [choice.number], choice.psi, choice.label)
    return to_bytes(edited(model, ws, _before(kept), choice.noise), LARGE_SIDE)[0]


@lru_cache(maxsize=32)
def samples(name: str, numbers: tuple[int, ...], psi: float, noise: str, label: int, side: int) -> Tensor:
    """Images of samples by their numbers."""
    model = generator(name)
    return to_bytes(edited(model, start(model, list(numbers), psi, label), [], noise), side)


def _before(kept: tuple[Shift, ...]) -> list[tuple[str, str, Tensor]]:
    return [(shift.layer, shift.edit, torch.tensor(shift.vector)) for shift in kept]
