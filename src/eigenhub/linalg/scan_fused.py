# SPDX-License-Identifier: Apache-2.0
"""The fused scan as a differentiable operator of torch: `torch.compile` would unroll its loops over blocks."""

from typing import Any

import torch
from torch import Tensor

from eigenhub.linalg.operator import define_operator
from eigenhub.linalg.powers import wide_dtype
from eigenhub.linalg.scan_blocks import chunk_steps
from eigenhub.linalg.scan_passes import Adjoint, forward_pass
from eigenhub.linalg.scan_system import System


SYSTEM = (
    "Tensor u, Tensor lbar, Tensor w_in, Tensor w_out, Tensor? d, Tensor state, Tensor? lengths, bool reverse, "
    "int chunk_size"
)


def _forward(*args: Any) -> tuple[Tensor, ...]:
    *system, keep_states = args
    return forward_pass(System(*system), keep_states)


def _fake_forward(u: Tensor, lbar: Tensor, *args: Any) -> tuple[Tensor, ...]:
    state, chunk_size, keep_states = args[3], args[6], args[7]
    (batch, length, _), states = u.shape, lbar.shape[0]
    chunks = -(-length // chunk_steps(length, chunk_size))
    kept = state.new_empty(batch, length, states, 2) if keep_states else state.new_empty(0, 2)
    return u.new_empty(u.shape), torch.empty_like(state), kept, state.new_empty(batch, chunks, states, 2)


def _backward(*args: Any) -> tuple[Tensor, ...]:
    return Adjoint(System(*args[:9]), *args[9:]).run()


def _fake_backward(u: Tensor, lbar: Tensor, w_in: Tensor, w_out: Tensor, *args: Any) -> tuple[Tensor, ...]:
    state, needed = args[1], args[-1]
    grad_u, grad_lbar = (
        u.new_empty(u.shape if needed[0] else (0,)),
        torch.empty_like(lbar, dtype=wide_dtype(lbar.dtype, lbar.device)),
    )
    maps = torch.empty_like(w_in), torch.empty_like(w_out), w_in.new_empty(u.shape[2])
    return grad_u, grad_lbar, *maps, torch.empty_like(state)


fused_ssm_backward = define_operator(
    "diagonal_ssm_backward",
    f"({SYSTEM}, Tensor before, Tensor grad_y, Tensor grad_final, Tensor grad_states, bool[] needed) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.reverse, ctx.chunk_size, _ = inputs
    ctx.save_for_backward(*tensors, output[-1])


def _differentiate(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, before = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:5])
    found = fused_ssm_backward(*tensors, ctx.reverse, ctx.chunk_size, before, *grads[:3], needed)
    u, lbar, w_in, w_out, d = (grad if wanted else None for grad, wanted in zip(found, needed, strict=False))
    return u, None if lbar is None else lbar.to(tensors[1].dtype), w_in, w_out, d, found[5], None, None, None, None


#: Arguments of [`System`] and `keep_states` to outputs, final state, states (empty unless kept), states before chunks.
fused_ssm = define_operator(
    "diagonal_ssm",
    f"({SYSTEM}, bool keep_states) -> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake_forward,
    _differentiate,
    _keep,
)
