# SPDX-License-Identifier: Apache-2.0
"""One step of single-input single-output diagonal systems, the loop over steps that defines them, and their checks."""

import torch
from torch import Tensor

from eigenhub.linalg.powers import complex_product
from eigenhub.linalg.scan_checks import check_lengths, check_sequence, check_shape


def siso_step(u: Tensor, state: Tensor, lbar: Tensor, bbar: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of [`~eigenhub.linalg.siso.siso_ssm`], for generation and streaming; its cost does not depend on what came before.

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
    """The definition of [`~eigenhub.linalg.siso.siso_ssm`]: a loop over the steps under autograd.

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
    """Raise `ValueError` for arguments of [`~eigenhub.linalg.siso.siso_ssm`] that do not fit together.

    Args:
        u (`Tensor`): input.
        lbar (`Tensor`): discrete eigenvalues.
        bbar (`Tensor`): discrete input map.
        c (`Tensor`): output map.
        state (`Tensor`, *optional*): state before the first step.
        lengths (`Tensor`, *optional*): number of steps of every row.
    """
    batch, _ = check_sequence(u)
    shape = (u.shape[2], lbar.shape[1] if lbar.ndim == 3 else 1, 2)
    for name, value in (("lbar", lbar), ("bbar", bbar), ("c", c)):
        check_shape(name, value, shape, "(channels, states, 2)")
    if state is not None:
        check_shape("initial_state", state, (batch, *shape), "(batch, channels, states, 2)")
    check_lengths(lengths, batch, reverse=False)
