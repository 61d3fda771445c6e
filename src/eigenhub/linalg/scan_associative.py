# SPDX-License-Identifier: Apache-2.0
"""The diagonal scan by torch's own associative scan, as an independent check and a yardstick."""

import torch
from torch import Tensor


def combine(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Two affine maps `x -> a x + b` one after the other.

    Args:
        first (`tuple[Tensor, Tensor]`): a and b of the map that is applied first.
        second (`tuple[Tensor, Tensor]`): a and b of the other.
    """
    return second[0] * first[0], second[0] * first[1] + second[1]


def associative_states(diagonal: Tensor, drives: Tensor, state: Tensor, reverse: bool) -> Tensor:
    """All states of `x_k = diagonal_k * x_{k-1} + drives_k`, kept in log-many rounds for the backward pass.

    Args:
        diagonal (`Tensor` of shape `(batch, length, states)`): complex.
        drives (`Tensor` of shape `(batch, length, states)`): complex.
        state (`Tensor` of shape `(batch, states)`): state before the first step.
        reverse (`bool`): run from the last step to the first.
    """
    from torch._higher_order_ops import associative_scan

    first = drives.shape[1] - 1 if reverse else 0
    entering = torch.zeros_like(drives)
    entering[:, first] = diagonal[:, first] * state
    _, states = associative_scan(combine, (diagonal, drives + entering), 1, reverse, "generic")
    return states


def associative_ssm(
    u: Tensor,
    lbar: Tensor,
    bbar: Tensor,
    c: Tensor,
    d: Tensor | None,
    state: Tensor,
    lengths: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, final state and states of a time-invariant diagonal system.

    Args:
        u (`Tensor` of shape `(batch, length >= 1, features)`): input.
        lbar (`Tensor` of shape `(states, 2)`): diagonal.
        bbar (`Tensor` of shape `(states, features, 2)`): input map, in the dtype of the work as the following.
        c (`Tensor` of shape `(features, states, 2)`): output map, with the weights of the states in it.
        d (`Tensor` of shape `(features,)` or `None`): feedthrough.
        state (`Tensor` of shape `(batch, states, 2)`): state before the first step.
        lengths (`Tensor` of shape `(batch,)` or `None`): steps after which the final state is taken.
        reverse (`bool`): run from the last step to the first.
    """
    source = u.to(bbar.dtype)
    drives = torch.complex(source @ bbar[..., 0].mT, source @ bbar[..., 1].mT)
    diagonal = torch.view_as_complex(lbar.to(bbar.dtype).contiguous()).expand_as(drives)
    start = torch.view_as_complex(state.contiguous())
    states = associative_states(diagonal, drives, start, reverse)
    y = states.real @ c[..., 0].mT - states.imag @ c[..., 1].mT
    y = y if d is None else y + d * source
    final = states[:, 0 if reverse else -1] if lengths is None else _after(states, start, lengths)
    return y.to(u.dtype), torch.view_as_real(final.contiguous()), torch.view_as_real(states.contiguous())


def _after(states: Tensor, start: Tensor, lengths: Tensor) -> Tensor:
    last = lengths.clamp(0, states.shape[1])[:, None, None] - 1
    found = states.gather(1, last.clamp(min=0).expand(-1, 1, states.shape[2]))[:, 0]
    return torch.where(last[:, 0] < 0, start, found)
