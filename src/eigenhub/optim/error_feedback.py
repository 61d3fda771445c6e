# SPDX-License-Identifier: Apache-2.0
"""What a projection left out, carried to the next step in 8, 16 or 32 bits per entry."""

from typing import Any

import torch
from torch import Tensor

from eigenhub.optim.blocks import add_rows_, matrix_pieces
from eigenhub.optim.layout import MatrixLayout


ERROR_FEEDBACK = ("fp32", "bf16", "int8")
LEVELS = 255
# Entries of a row that share one range: a shorter block follows the data better, 256 cost 3 % for the ranges.
BLOCK = 256

KEY = "error_feedback"
LOW_KEY = "error_feedback_low"
SPAN_KEY = "error_feedback_span"


def quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows in 8 bits: each block of 256 entries between its own smallest and largest one, in 255 steps.

    Args:
        x (`Tensor` of shape `(..., n)`): finite rows.

    Returns:
        `codes (..., n)` in uint8, and `low` and `span (..., blocks)` in the dtype of `x`. A constant block has span 0 and
        comes back exactly.
    """
    padded = _blocks(x)
    low, high = padded.amin(-1), padded.amax(-1)  # on a CPU far quicker than both at once
    span = high - low
    # A span below the smallest normal number cannot be divided by; such a block is constant to working precision.
    span = torch.where(span < LEVELS * torch.finfo(span.dtype).tiny, 0.0, span)
    steps = LEVELS / torch.where(span > 0, span, 1.0)
    codes = ((padded - low.unsqueeze(-1)) * steps.unsqueeze(-1)).round_().clamp_(0, LEVELS)
    return codes.to(torch.uint8).flatten(-2)[..., : x.shape[-1]], low, span


def dequantize(codes: Tensor, low: Tensor, span: Tensor) -> Tensor:
    """The rows that [`quantize`] has stored, in the dtype of `low`."""
    padded = _blocks(codes).to(low.dtype)
    rows = padded.mul_((span / LEVELS).unsqueeze(-1)).add_(low.unsqueeze(-1))
    return rows.flatten(-2)[..., : codes.shape[-1]]


def _blocks(x: Tensor) -> Tensor:
    missing = -x.shape[-1] % BLOCK
    if missing:  # repeat the last entry, which cannot widen its block's range
        x = torch.cat([x, x[..., -1:].expand(*x.shape[:-1], missing)], dim=-1)
    return x.unflatten(-1, (-1, BLOCK))


def create_error_feedback(state: dict[str, Any], layout: MatrixLayout, extent: torch.Size, kind: str) -> None:
    """Add zero error feedback to the state of one parameter.

    Args:
        state (`dict`): its state.
        layout (`MatrixLayout`): how it is seen as matrices.
        extent (`torch.Size`): matrices and rows on this process.
        kind (`str`): `"fp32"`, `"bf16"` or `"int8"`.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.uint8}[kind]
    state[KEY] = layout.zeros(extent, layout.width, dtype)
    if kind == "int8":
        blocks = -(-layout.width // BLOCK)
        state[LOW_KEY] = layout.per_row(extent, blocks, torch.float32)
        state[SPAN_KEY] = layout.per_row(extent, blocks, torch.float32)


def read_error_feedback(state: dict[str, Any], layout: MatrixLayout, piece: slice = slice(None)) -> Tensor:
    """Rows `piece` of the error feedback of one parameter as `(k, m, width)`; to be added, not written to."""
    stored = layout.view(state[KEY])[:, piece]
    if stored.dtype != torch.uint8:
        return stored
    low, span = (layout.matrix_view(state[key])[:, piece] for key in (LOW_KEY, SPAN_KEY))
    return dequantize(stored, low, span)


def with_error_feedback(
    rows: Tensor, state: dict[str, Any], layout: MatrixLayout, dtype: torch.dtype, budget: int
) -> Tensor:
    """`rows (k, m, width)` plus the error feedback of one parameter, as a new tensor.

    Args:
        rows (`Tensor`): the gradient.
        state (`dict`): state of the parameter.
        layout (`MatrixLayout`): how it is seen as matrices.
        dtype (`torch.dtype`): dtype of the sum.
        budget (`int`): bytes of the pieces in which stored codes are turned into numbers.
    """
    total = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    for piece in matrix_pieces(total, budget):
        total[:, piece] = read_error_feedback(state, layout, piece)
        add_rows_(total[:, piece], rows[:, piece], budget)
    return total


def write_error_feedback(state: dict[str, Any], layout: MatrixLayout, rows: Tensor, start: int) -> None:
    """Store new rows `(k, m, width)` of the error feedback of one parameter, from row `start` on."""
    here = slice(start, start + rows.shape[1])
    stored = layout.view(state[KEY])[:, here]
    if stored.dtype != torch.uint8:
        stored.copy_(rows)
        return
    codes, low, span = quantize(rows)
    stored.copy_(codes)
    layout.matrix_view(state[LOW_KEY])[:, here].copy_(low)
    layout.matrix_view(state[SPAN_KEY])[:, here].copy_(span)
