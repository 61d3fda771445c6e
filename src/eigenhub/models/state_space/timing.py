# SPDX-License-Identifier: Apache-2.0
"""Irregularly sampled sequences: from timestamps to the gap before each step."""

import torch
from torch import Tensor

from eigenhub.models.state_space.padding import inside_spans, real_spans


def step_deltas(
    time_deltas: Tensor | None, timestamps: Tensor | None, mask: Tensor | None, shape: tuple[int, int], continues: bool
) -> Tensor | None:
    """The gap before each step in units of the layers' own step sizes; `None` for evenly sampled sequences.

    Args:
        time_deltas (`Tensor` of shape `(batch, length)`, *optional*): the gaps themselves.
        timestamps (`Tensor` of shape `(batch, length)`, *optional*): times, not descending. Their differences are the
            gaps, and the gap before the first real step is 1, as in the S5 code.
        mask (`Tensor` of shape `(batch, length)`, *optional*): True at real steps. Pads get the gap 0, which holds the
            state.
        shape (`tuple[int, int]`): `(batch, length)` of the input.
        continues (`bool`): whether a cache holds earlier steps, whose last time is not known here.
    """
    if time_deltas is None and timestamps is None:
        return None
    if time_deltas is not None and timestamps is not None:
        raise ValueError("`time_deltas` and `timestamps` say the same twice: give one of them")
    if timestamps is not None and continues:
        raise ValueError("`timestamps` cannot continue a cache, whose last time is not kept: give `time_deltas`")
    name, given = ("time_deltas", time_deltas) if timestamps is None else ("timestamps", timestamps)
    if given is None or tuple(given.shape) != shape:
        got = None if given is None else tuple(given.shape)
        raise ValueError(f"`{name}` must have shape (batch, length) = {shape}, got {got}")
    deltas = _differences(given, mask) if timestamps is not None else given
    if mask is not None:
        deltas = torch.where(inside_spans(mask), deltas, 0)
    if not torch.compiler.is_compiling() and bool((deltas < 0).any()):
        rule = "not be negative" if timestamps is None else "not descend"
        raise ValueError(f"`{name}` must {rule}, got a gap of {deltas.min().item():g}")
    return deltas.float() if not deltas.dtype.is_floating_point else deltas


def _differences(timestamps: Tensor, mask: Tensor | None) -> Tensor:
    deltas = torch.diff(timestamps, dim=1, prepend=timestamps[:, :1] - 1)
    if mask is None:
        return deltas
    index = torch.arange(timestamps.shape[1], device=timestamps.device)
    return torch.where(index == real_spans(mask).first[:, None], torch.ones_like(deltas), deltas)
