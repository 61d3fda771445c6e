# SPDX-License-Identifier: Apache-2.0
"""Complaints about what a visitor chose, in words for the page."""

import math
from collections.abc import Collection
from typing import Any

import gradio as gr


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise `gr.Error` for a name that is not there."""
    if value not in allowed:
        raise gr.Error(f"The {name} must be one of {', '.join(allowed)}, got {value!r}.")


def check_whole(name: str, value: Any, least: int, most: int) -> None:
    """Raise `gr.Error` unless it is a whole number in its bounds."""
    if not is_number(value) or value != int(value) or not least <= value <= most:
        raise gr.Error(f"The {name} must be a whole number from {least} to {most}, got {value}.")


def check_between(name: str, value: Any, least: float, most: float) -> None:
    """Raise `gr.Error` unless it is a number in its bounds."""
    if not is_number(value) or not least <= value <= most:
        raise gr.Error(f"The {name} must be from {least:g} to {most:g}, got {value}.")


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number; an emptied field of the page is None."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
