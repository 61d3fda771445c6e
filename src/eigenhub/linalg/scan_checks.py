# SPDX-License-Identifier: Apache-2.0
"""What the scans accept, checked before any work; every message names the argument, its value and what is allowed."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise `ValueError` unless `value` is one of `allowed`.

    Args:
        name (`str`): the argument, as the caller knows it.
        value (`str`): what was given.
        allowed (`Sequence[str]`): what may be given.
    """
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}")


def check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], letters: str) -> None:
    """Raise `ValueError` unless `tensor` is real, floating and of exactly this shape.

    Args:
        name (`str`): the argument, as the caller knows it.
        tensor (`Tensor`): what was given.
        shape (`tuple[int, ...]`): what it must be.
        letters (`str`): the shape in words, for the message.
    """
    if not isinstance(tensor, Tensor) or not tensor.dtype.is_floating_point:
        raise ValueError(f"`{name}` must be a real floating tensor, complex numbers as pairs, got {_kind(tensor)}")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"`{name}` must have shape {letters} = {shape}, got {tuple(tensor.shape)}")


def check_system(
    u: Tensor,
    diagonal: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None,
    weight: Tensor | None,
    names: tuple[str, str] = ("lbar", "bbar"),
) -> tuple[int, int]:
    """Check the tensors that define a diagonal system against one another and against its input.

    Args:
        u (`Tensor` of shape `(..., features)`): input.
        diagonal (`Tensor` of shape `(states, 2)`): diagonal.
        b (`Tensor` of shape `(states, features, 2)`): input map.
        c (`Tensor` of shape `(features, states, 2)`): output map.
        d (`Tensor` of shape `(features,)` or `None`): feedthrough.
        weight (`Tensor` of shape `(states,)` or `None`): conjugate weight.
        names (`tuple[str, str]`, *optional*, defaults to `("lbar", "bbar")`): what the caller calls `diagonal` and
            `b`.

    Returns:
        `(features, states)`.
    """
    if not isinstance(diagonal, Tensor) or diagonal.ndim != 2 or diagonal.shape[0] == 0:
        raise ValueError(f"`{names[0]}` must have shape (states >= 1, 2), got {_kind(diagonal)}")
    features, states = u.shape[-1], diagonal.shape[0]
    check_shape(names[0], diagonal, (states, 2), "(states, 2)")
    check_shape(names[1], b, (states, features, 2), "(states, features, 2)")
    check_shape("c", c, (features, states, 2), "(features, states, 2)")
    if d is not None:
        check_shape("d", d, (features,), "(features,)")
    if weight is not None:
        check_shape("state_weight", weight, (states,), "(states,)")
    return features, states


def check_state(name: str, state: Tensor | None, batch: int, states: int) -> None:
    """Raise `ValueError` for a state of another shape than the batch needs.

    Args:
        name (`str`): the argument, as the caller knows it.
        state (`Tensor` of shape `(batch, states, 2)` or `None`): what was given.
        batch (`int`): number of sequences.
        states (`int`): complex states.
    """
    if state is not None:
        check_shape(name, state, (batch, states, 2), "(batch, states, 2)")


def check_input(u: Tensor, dimensions: int, letters: str) -> None:
    """Raise `ValueError` unless `u` is real, floating, of so many dimensions and has features.

    Args:
        u (`Tensor`): input.
        dimensions (`int`): how many it must have.
        letters (`str`): the shape in words, for the message.
    """
    if not isinstance(u, Tensor) or not u.dtype.is_floating_point or u.ndim != dimensions or u.shape[-1] == 0:
        raise ValueError(f"`u` must be a real floating tensor of shape {letters}, got {_kind(u)}")


def check_sequence(u: Tensor) -> tuple[int, int]:
    """Check a batch of sequences and return `(batch, length)`.

    Args:
        u (`Tensor` of shape `(batch, length, features)`): input.
    """
    check_input(u, 3, "(batch, length, features >= 1)")
    return u.shape[0], u.shape[1]


def check_lengths(lengths: Tensor | None, batch: int, reverse: bool) -> None:
    """Check the numbers of real steps of right-padded rows, but not their values: that would wait for a GPU.

    Args:
        lengths (`Tensor` of shape `(batch,)` or `None`): integers.
        batch (`int`): number of rows.
        reverse (`bool`): direction of the scan; from the right the pads come first and change nothing.
    """
    if lengths is None:
        return
    if reverse:
        raise ValueError("`lengths` holds the state at the right end, so it needs `reverse=False`, got True")
    integers = isinstance(lengths, Tensor) and not lengths.dtype.is_floating_point and lengths.dtype != torch.bool
    if not integers or tuple(lengths.shape) != (batch,):
        raise ValueError(f"`lengths` must be integers of shape (batch,) = ({batch},), got {_kind(lengths)}")


def check_chunk_size(chunk_size: int | None) -> None:
    """Raise `ValueError` for a chunk of less than one step.

    Args:
        chunk_size (`int` or `None`): steps of a chunk.
    """
    if chunk_size is None:
        return
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 1:
        raise ValueError(f"`chunk_size` must be an integer of at least 1, or None, got {chunk_size!r}")


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
