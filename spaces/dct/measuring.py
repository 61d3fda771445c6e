# SPDX-License-Identifier: Apache-2.0
"""The curves of a named matrix; the most recent ones are kept, so that moving a slider measures nothing anew."""

from dataclasses import dataclass
from functools import lru_cache

import gradio as gr
from captured import Captured, captured_energy
from language_models import load_model
from moments import moment_of
from names import SIDES

from eigenhub.hub.space_events import shown_to_visitor


@dataclass(frozen=True)
class Measured:
    """
    What was measured.

    Args:
        matrix (`str`): name of the weight.
        shape (`tuple[int, ...]`): its shape.
        captured (`Captured`): the curves.
    """

    matrix: str
    shape: tuple[int, ...]
    captured: Captured


def measure(model: str | None, matrix: str | None, moment: str, side: str, norm: int) -> Measured:
    """
    Captured energy of a matrix.

    Args:
        model (`str`, *optional*): as for `load_model`.
        matrix (`str`, *optional*): its name; the first one if nothing is named.
        moment (`str`): key of `MOMENTS`.
        side (`str`): key of `SIDES`.
        norm (`int`): 1 or 2.

    Raises:
        gr.Error: something does not exist or does not fit, in words for the visitor.
    """
    loaded = load_model(model)
    if side not in SIDES or norm not in (1, 2):
        raise gr.Error(f"The side is one of {', '.join(SIDES)} and the norm 1 or 2, not {side!r} and {norm!r}.")
    return _measure(loaded.name, matrix or next(iter(loaded.matrices)), moment, side, norm)


@lru_cache(maxsize=32)
def _measure(model: str, matrix: str, moment: str, side: str, norm: int) -> Measured:
    found = moment_of(model, matrix, moment)
    with shown_to_visitor(f"Cannot measure the {moment} of {matrix}"):
        return Measured(matrix, tuple(found.shape), captured_energy(found, side, norm))
