# SPDX-License-Identifier: Apache-2.0
r"""State-passing convolution: matrix products inside chunks of time, a short recurrence from chunk to chunk.

Per channel, with chunks of T steps as the rows of $U$ and the states before them as the rows of $X$:
$Y = U\,\mathrm{Toeplitz}(K_0, \dots, K_{T-1}) + X\,O$ and $X_{m+1} = \bar\lambda^T X_m + U_m E$.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from eigenhub.linalg.autocast import without_autocast
from eigenhub.linalg.chunk_tables import ChunkTables, chunk_tables
from eigenhub.linalg.fft_convolution import blocks_of
from eigenhub.linalg.powers import wide_dtype


# Larger than for the FFT: every block repeats the short recurrence.
CPU_BLOCK = 1 << 21


def chunk_convolution(
    u: Tensor, lbar: Tensor, bbar: Tensor, c: Tensor, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    r"""Run single-input single-output systems over a batch: causal, with the state before the first step and after the last.

    All work is in matrix products, but for a recurrence over `length / chunk` states. The backward pass recomputes those
    states and runs the recurrence from the right, so that nothing but `u` is kept.

    Args:
        u (`Tensor` of shape `(batch, length, channels)`): input, float32 or float64, not empty.
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues; their conjugates are implied.
        bbar (`Tensor` of shape `(channels, states, 2)`): discrete input map.
        c (`Tensor` of shape `(channels, states, 2)`): output map.
        state (`Tensor` of shape `(batch, channels, states, 2)`): state before the first step.
        chunk (`int`): steps of a chunk; cost per step is about `2 * chunk + 8 * states`.

    Returns:
        `y (batch, length, channels)` and the final state `(batch, channels, states, 2)`, in the dtype of `u`,
        differentiable (once).
    """
    chunk = min(chunk, u.shape[1])
    tail = (u.shape[1] - 1) % chunk + 1
    tables = chunk_tables(lbar, bbar, c, chunk, tail, u.dtype)
    wide = state.to(wide_dtype(u.dtype, u.device)).permute(1, 0, 3, 2)  # [channels, batch, 2, states]
    y, final = StatePassing.apply(u, *tables, wide)
    return y, final.permute(1, 0, 3, 2).to(u.dtype)


class StatePassing(torch.autograd.Function):
    """The products and the recurrence of [`chunk_convolution`], one block of channels and rows after the other."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, *tables_and_state: Tensor) -> tuple[Tensor, Tensor]:
        """Output and final state."""
        ctx.save_for_backward(u, *tables_and_state)
        *every, state = tables_and_state
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        final = torch.empty_like(state)
        for channels, batches in blocks_of(u, CPU_BLOCK):
            tables = ChunkTables(*(x[channels] for x in every))
            for rows in batches:
                x = _rows(u[rows, :, channels], tables)
                before, final[channels, rows] = _states(x, tables, state[channels, rows], u.shape[1])
                out = torch.bmm(x, tables.toeplitz).baddbmm_(_flat(before), tables.leave)
                y[rows, :, channels] = _signal(out, y[rows, :, channels].shape)
        return y, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> tuple[Tensor, ...]:
        """The recurrence runs from the right with conjugate eigenvalues."""
        with without_autocast(grad_y.device):
            return _gradients(ctx.saved_tensors, grad_y, grad_final)


def _gradients(saved: tuple[Tensor, ...], grad_y: Tensor, grad_final: Tensor) -> tuple[Tensor, ...]:
    u, *every, state = saved
    grad_u = torch.empty_like(u, memory_format=torch.contiguous_format)
    grad_state = torch.empty_like(state)
    grads = [torch.zeros_like(x) for x in every]
    for channels, batches in blocks_of(u, CPU_BLOCK):
        tables = ChunkTables(*(x[channels] for x in every))
        for rows in batches:
            x, g = _rows(u[rows, :, channels], tables), _rows(grad_y[rows, :, channels], tables)
            grad_x, first, parts = _block_gradients(
                x, g, tables, state[channels, rows], grad_final[channels, rows], u.shape[1]
            )
            grad_u[rows, :, channels] = _signal(grad_x, grad_u[rows, :, channels].shape)
            grad_state[channels, rows] = first
            for total, part in zip(grads, parts, strict=True):
                total[channels] += part
    return grad_u, *grads, grad_state


def _block_gradients(
    x: Tensor, g: Tensor, tables: ChunkTables, state: Tensor, grad_final: Tensor, length: int
) -> tuple[Tensor, Tensor, ChunkTables]:
    """Gradients of the rows `x`, of the state before them and of the tables, from the gradient `g` of the output rows."""
    batch = state.shape[1]
    before, _ = _states(x, tables, state, length)
    through_outputs = torch.bmm(g, tables.leave.mT).unflatten(1, (batch, -1)).unflatten(-1, (2, -1))
    after, grad_state = _recurrence(
        through_outputs, _conjugate(tables.jump), _conjugate(tables.last_jump), grad_final, True
    )
    jumps = _jump_gradients(before, after, tables.jump.dtype)
    grad_x = torch.bmm(g, tables.toeplitz.mT)
    grad_enter = _enter_gradient(x, after.flatten(-2), tables, length, grad_x)
    grads = ChunkTables(torch.bmm(x.mT, g), grad_enter, torch.bmm(_flat(before).mT, g), *jumps)
    return grad_x, grad_state, grads


def _enter_gradient(x: Tensor, after: Tensor, tables: ChunkTables, length: int, grad_x: Tensor) -> Tensor:
    """Gradient of `enter`; what reaches the rows through it is added to `grad_x`. `after` is overwritten."""
    batch, tail = after.shape[1], length % x.shape[-1]
    last = after[:, :, -1].clone()
    if tail:
        after[:, :, -1] = 0
    grad_x.baddbmm_(after.flatten(1, 2), tables.enter.mT)
    grad_enter = torch.bmm(x.mT, after.flatten(1, 2))
    if tail:
        _last(grad_x, batch)[..., :tail] += torch.bmm(last, tables.enter[:, -tail:].mT)
        grad_enter[:, -tail:] += torch.bmm(_last(x, batch)[..., :tail].mT, last)
    return grad_enter


def _jump_gradients(before: Tensor, after: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`after * conj(before)`, summed over the batch and over all chunks but the last; and of the last."""
    (x_re, x_im), (g_re, g_im) = before.unbind(-2), after.unbind(-2)
    product = torch.stack([g_re * x_re + g_im * x_im, g_im * x_re - g_re * x_im], dim=-2).sum(1).to(dtype)
    return product[:, :-1].sum(1), product[:, -1]


def _rows(u: Tensor, tables: ChunkTables) -> Tensor:
    """Chunks as rows, `[channels, batch * chunks, chunk]`, zero behind the end."""
    chunk = tables.toeplitz.shape[-1]
    x = pad(u.permute(2, 0, 1), (0, -u.shape[1] % chunk)).reshape(u.shape[2], -1, chunk)
    return x.contiguous()  # the products would copy a strided view each time


def _signal(rows: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of [`_rows`]."""
    batch, length, channels = shape
    return rows.reshape(channels, batch, -1)[..., :length].permute(1, 2, 0)


def _last(rows: Tensor, batch: int) -> Tensor:
    return rows.unflatten(1, (batch, -1))[:, :, -1]


def _flat(states: Tensor) -> Tensor:
    return states.flatten(-2).flatten(1, 2)  # [channels, batch * chunks, 2 * states]


def _states(rows: Tensor, tables: ChunkTables, state: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """States before every chunk `[channels, batch, chunks, 2, states]` in the dtype of `rows`, and after the last."""
    batch = state.shape[1]
    ends = torch.bmm(rows, tables.enter).unflatten(1, (batch, -1))
    if tail := length % rows.shape[-1]:
        ends[:, :, -1] = torch.bmm(_last(rows, batch)[..., :tail], tables.enter[:, -tail:])
    return _recurrence(ends.unflatten(-1, (2, -1)), tables.jump, tables.last_jump, state)


def _recurrence(
    increments: Tensor, jump: Tensor, last_jump: Tensor, state: Tensor, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """`state` at the arrival at every chunk, `jump * state + increment` at the next one; numbers are `[..., 2, states]`."""
    arrived = torch.empty_like(increments)
    last = increments.shape[2] - 1
    for m in range(last, -1, -1) if reverse else range(last + 1):
        arrived[:, :, m] = state
        scale, turn = _rotation(last_jump if m == last else jump)
        state = torch.addcmul(increments[:, :, m] + scale * state, turn, state.flip(-2))
    return arrived, state


def _rotation(jump: Tensor) -> tuple[Tensor, Tensor]:
    """`jump * z` is `scale * z + turn * z.flip(-2)`."""
    re, im = jump.unbind(-2)
    return re[:, None, None], torch.stack([-im, im], dim=-2)[:, None]


def _conjugate(jump: Tensor) -> Tensor:
    return torch.stack([jump[:, 0], -jump[:, 1]], dim=1)
