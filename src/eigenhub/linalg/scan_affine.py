# SPDX-License-Identifier: Apache-2.0
r"""The scan $x_k = a_k \odot x_{k-1} + v_k$ whose diagonal changes from step to step, as a differentiable operator."""

from typing import Any

import torch
from torch import Tensor

from eigenhub.linalg.operator import define_operator
from eigenhub.linalg.scan_blocks import chunk_steps
from eigenhub.linalg.scan_recurrence import travel


# Devices on which the steps are taken one by one.
ONE_CHUNK_ON = ("cpu",)


def _forward(a: Tensor, v: Tensor, state: Tensor, reverse: bool) -> Tensor:
    a, v, state = (torch.view_as_complex(t.contiguous()) for t in (a, v, state))
    return torch.view_as_real(_scan(a, v, state, reverse))


def _fake_forward(a: Tensor, v: Tensor, state: Tensor, reverse: bool) -> Tensor:
    return v.new_empty(v.shape)


def _backward(a: Tensor, states: Tensor, state: Tensor, grad: Tensor, reverse: bool) -> tuple[Tensor, ...]:
    """Gradients of `a, v, state`, by q_k = conj(grad x_k) + a_{k+1} q_{k+1} against the direction of travel."""
    a, states, state, grad = (torch.view_as_complex(t.contiguous()) for t in (a, states, state, grad))
    after = _shifted(a, torch.ones_like(state), not reverse)
    q = _scan(after, grad.conj_physical(), torch.zeros_like(state), not reverse)
    first = -1 if reverse else 0
    grads = q * _shifted(states, state, reverse), q, a[:, first] * q[:, first]
    return tuple(torch.view_as_real(g.conj_physical()) for g in grads)


def _fake_backward(a: Tensor, states: Tensor, state: Tensor, grad: Tensor, reverse: bool) -> tuple[Tensor, ...]:
    return a.new_empty(a.shape), a.new_empty(a.shape), state.new_empty(state.shape)


affine_scan_backward = define_operator(
    "affine_scan_backward",
    "(Tensor a, Tensor states, Tensor state, Tensor grad, bool reverse) -> (Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, _, state, ctx.reverse = inputs
    ctx.save_for_backward(a, output, state)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *affine_scan_backward(*ctx.saved_tensors, grad, ctx.reverse), None


#: `a, v (batch, length >= 1, states, 2)`, `state (batch, states, 2)` and `reverse`; all states, of the shape of `v`.
affine_scan = define_operator(
    "affine_scan",
    "(Tensor a, Tensor v, Tensor state, bool reverse) -> Tensor",
    _forward,
    _fake_forward,
    _differentiate,
    _keep,
)


def _shifted(x: Tensor, edge: Tensor, reverse: bool) -> Tensor:
    """What stands one step earlier in the direction of travel; `edge` before the first."""
    return torch.cat([x[:, 1:], edge[:, None]] if reverse else [edge[:, None], x[:, :-1]], dim=1)


def _scan(a: Tensor, v: Tensor, state: Tensor, reverse: bool) -> Tensor:
    """All states, complex.

    On a CPU, where a call costs little, one step after the other: a diagonal of one then holds the state to the last
    bit. Elsewhere chunks side by side, as for a constant diagonal, but with products in place of powers.
    """
    length = v.shape[1]
    chunk = length if v.device.type in ONE_CHUNK_ON else chunk_steps(length, 0)
    diagonals, x = _chunked(a, chunk, 1), _chunked(v, chunk, 0)
    steps = list(zip(travel(diagonals, reverse), travel(x, reverse), strict=True))
    before = state[:, None] if chunk == length else _entering(steps, state, reverse)
    for diagonal, now in steps:
        before = now.addcmul_(diagonal, before)
    return x.flatten(1, 2)[:, :length].contiguous()


def _chunked(steps: Tensor, chunk: int, fill: int) -> Tensor:
    """A copy in chunks, filled up with steps that hold the state."""
    batch, length, states = steps.shape
    chunks = -(-length // chunk)
    padded = steps.new_full((batch, chunks * chunk, states), fill)
    padded[:, :length] = steps
    return padded.view(batch, chunks, chunk, states)


def _entering(steps: list[tuple[Tensor, Tensor]], state: Tensor, reverse: bool) -> Tensor:
    """The state before each chunk, in the order of time: prefix compositions of the chunks' affine maps."""
    factor, ends = (first.clone() for first in steps[0])
    for diagonal, drive in steps[1:]:
        factor *= diagonal
        ends = torch.addcmul(drive, diagonal, ends)
    if reverse:
        factor, ends = factor.flip(1), ends.flip(1)
    factor = torch.cat([torch.zeros_like(state)[:, None], factor[:, :-1]], dim=1)
    states, reach = torch.cat([state[:, None], ends[:, :-1]], dim=1), 1
    while reach < states.shape[1]:
        states[:, reach:] = torch.addcmul(states[:, reach:], factor[:, reach:], states[:, :-reach])
        factor[:, reach:] = factor[:, reach:] * factor[:, :-reach]
        reach *= 2
    return states.flip(1) if reverse else states
