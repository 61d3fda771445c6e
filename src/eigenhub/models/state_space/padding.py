# SPDX-License-Identifier: Apache-2.0
"""Sequences of different lengths in one batch: pads on either side change no real output and no final state."""

from typing import NamedTuple

import torch
from torch import Tensor


class Spans(NamedTuple):
    """Where the real steps of each row lie.

    Args:
        first (`Tensor` of shape `(batch,)`): index of the first real step, 0 in a row of pads.
        end (`Tensor` of shape `(batch,)`): index after the last real step, 0 in a row of pads.
    """

    first: Tensor
    end: Tensor


def check_mask(mask: Tensor | None, batch: int, length: int, continues: bool) -> Tensor | None:
    """An attention mask as booleans for the current steps, or `None` if every step is real.

    Args:
        mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real steps. With a cache it may also cover the
            steps before, as `generate` passes it.
        batch (`int`): number of sequences.
        length (`int`): number of steps of the current input.
        continues (`bool`): whether there is a cache.
    """
    if mask is None:
        return None
    too_long = mask.ndim == 2 and mask.shape[1] > length and not continues
    if mask.ndim != 2 or mask.shape[0] != batch or mask.shape[1] < length or too_long:
        wanted = f"({batch}, {length})" + (" or longer" if continues else "")
        raise ValueError(f"`attention_mask` must have shape (batch, length) = {wanted}, got {tuple(mask.shape)}")
    mask = mask[:, mask.shape[1] - length :] != 0
    # one look at the values saves every layer its work on pads; a compiled graph cannot take it
    if not torch.compiler.is_compiling() and bool(mask.all()):
        return None
    return mask


def zero_pads(hidden_states: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros at pads, whatever stood there.

    Args:
        hidden_states (`Tensor` of shape `(batch, length, features)`): input.
        mask (`Tensor` of shape `(batch, length)`, *optional*): True at real steps.
    """
    return hidden_states if mask is None else torch.where(mask[..., None], hidden_states, 0.0)


def real_spans(mask: Tensor) -> Spans:
    """First and last real step of each row. Holes between them are steps with zero input, not pads.

    Args:
        mask (`Tensor` of shape `(batch, length)`): True at real steps.
    """
    length = mask.shape[1]
    if length == 0:
        zeros = torch.zeros(mask.shape[0], dtype=torch.long, device=mask.device)
        return Spans(zeros, zeros)
    some = mask.any(1)
    first = mask.int().argmax(1)
    end = length - mask.flip(1).int().argmax(1)
    return Spans(torch.where(some, first, 0), torch.where(some, end, 0))


def inside_spans(mask: Tensor) -> Tensor:
    """True from the first to the last real step of each row, holes included.

    Args:
        mask (`Tensor` of shape `(batch, length)`): True at real steps.
    """
    first, end = real_spans(mask)
    index = torch.arange(mask.shape[1], device=mask.device)
    return (index >= first[:, None]) & (index < end[:, None])


def roll_rows(x: Tensor, shift: Tensor) -> Tensor:
    """Roll each row to the left by a number of steps of its own.

    Args:
        x (`Tensor` of shape `(batch, length, ...)`): rows.
        shift (`Tensor` of shape `(batch,)`): integers, negative ones roll to the right.
    """
    length = x.shape[1]
    if length == 0:
        return x
    index = (torch.arange(length, device=x.device) + shift[:, None]) % length
    return x.take_along_dim(index.view(*index.shape, *[1] * (x.ndim - 2)), dim=1)
