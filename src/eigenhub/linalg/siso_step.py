# SPDX-License-Identifier: Apache-2.0
"""One step of single-input single-output diagonal systems, the loop over steps that defines them, and their checks."""

import torch
from torch import Tensor

from eigenhub.linalg.powers import complex_product


def siso_step(u: Tensor, state: Tensor, lbar: Tensor, bbar: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of [`siso_ssm`], for generation and streaming; its cost does not depend on what came before.

    Args:
        u (`Tensor` of shape `(batch, channels)`): input of the step. Half precision is computed in float32.
        state (`Tensor` of shape `(batch, channels, states, 2)`): state before the step.
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues.
        bbar (`Tensor` of shape `(channels, states, 2)`): discrete input map.
        c (`Tensor` of shape `(channels, states, 2)`): output map.

    Returns:
        `y (batch, channels)` in the dtype of `u`, and the state after the step in at least float32.
    """
    check_siso(u.unsqueeze(1), lbar, bbar, c, state)
    dtype = torch.promote_types(u.dtype, torch.float32)
    new = pair_product(lbar.to(dtype), state.to(dtype)) + bbar.to(dtype) * u.to(dtype)[..., None, None]
    y = 2 * (c[..., 0].to(dtype) * new[..., 0] - c[..., 1].to(dtype) * new[..., 1]).sum(-1)
    return y.to(u.dtype), new


def siso_reference(u: Tensor, lbar: Tensor, bbar: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The definition of [`siso_ssm`]: a loop over the steps under autograd.

    Args:
        u (`Tensor` of shape `(batch, length, channels)`): input, at least one step.
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues.
        bbar (`Tensor` of shape `(channels, states, 2)`): discrete input map.
        c (`Tensor` of shape `(channels, states, 2)`): output map.
        state (`Tensor` of shape `(batch, channels, states, 2)`): state before the first step.

    Returns:
        `y (batch, length, channels)` and the final state.
    """
    outputs = []
    for step in u.unbind(1):
        y, state = siso_step(step, state, lbar, bbar, c)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def pair_product(x: Tensor, y: Tensor) -> Tensor:
    """Complex product of pairs `(..., 2)`, broadcast.

    Args:
        x (`Tensor` of shape `(..., 2)`): pairs.
        y (`Tensor` of shape `(..., 2)`): pairs.
    """
    return torch.stack(complex_product(*x.unbind(-1), *y.unbind(-1)), dim=-1)


def check_siso(
    u: Tensor, lbar: Tensor, bbar: Tensor, c: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
) -> None:
    """Raise `ValueError` for arguments of [`siso_ssm`] that do not fit together."""
    if u.ndim != 3 or not u.dtype.is_floating_point:
        raise ValueError(f"`u` must be real, of shape (batch, length, channels), got {u.dtype} of {tuple(u.shape)}")
    if lbar.ndim != 3 or lbar.shape[0] != u.shape[2] or lbar.shape[2] != 2:
        raise ValueError(f"`lbar` must have shape ({u.shape[2]}, states, 2), got {tuple(lbar.shape)}")
    for name, value in (("bbar", bbar), ("c", c)):
        if value.shape != lbar.shape:
            raise ValueError(f"`{name}` must have the shape of `lbar`, {tuple(lbar.shape)}, got {tuple(value.shape)}")
    if state is not None and state.shape != (u.shape[0], *lbar.shape):
        raise ValueError(f"the state must have shape {(u.shape[0], *lbar.shape)}, got {tuple(state.shape)}")
    if lengths is not None and (lengths.shape != u.shape[:1] or lengths.dtype.is_floating_point):
        raise ValueError(f"`lengths` must be {u.shape[0]} integers, got {lengths.dtype} of {tuple(lengths.shape)}")
