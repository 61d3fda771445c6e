# SPDX-License-Identifier: Apache-2.0
"""What a state-passing convolution knows about one chunk of time."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from eigenhub.linalg.powers import complex_product, power_table, wide_dtype


class ChunkTables(NamedTuple):
    """What one chunk of T steps needs; `2 * states` stands for the real parts and then the imaginary parts.

    Args:
        toeplitz (`Tensor` of shape `(channels, T, T)`): from the inputs to the outputs of a chunk.
        enter (`Tensor` of shape `(channels, T, 2 * states)`): from the inputs to the state after it, E.
        leave (`Tensor` of shape `(channels, 2 * states, T)`): from the state before it to the outputs, O.
        jump (`Tensor` of shape `(channels, 2, states)`): the eigenvalues to the power T, in the widest dtype.
        last_jump (`Tensor` of shape `(channels, 2, states)`): to the number of steps of the last chunk.
    """

    toeplitz: Tensor
    enter: Tensor
    leave: Tensor
    jump: Tensor
    last_jump: Tensor


def chunk_tables(lbar: Tensor, bbar: Tensor, c: Tensor, chunk: int, tail: int, dtype: torch.dtype) -> ChunkTables:
    r"""Tables of [`chunk_convolution`], differentiable, with all powers taken in float64.

    Args:
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues.
        bbar (`Tensor` of shape `(channels, states, 2)`): discrete input map.
        c (`Tensor` of shape `(channels, states, 2)`): output map.
        chunk (`int`): steps of a chunk.
        tail (`int`): steps of the last one, between 1 and `chunk`.
        dtype (`torch.dtype`): dtype of the tables that enter matrix products.
    """
    wide = wide_dtype(dtype, lbar.device)
    lbar_re, lbar_im = lbar.to(wide).unbind(-1)
    b_re, b_im = bbar.to(wide).unbind(-1)
    c_re, c_im = (2 * c.to(wide)).unbind(-1)
    re, im = power_table(lbar_re, lbar_im, chunk + 1)  # [chunk + 1, channels, states]
    enter = complex_product(b_re, b_im, re[:-1], im[:-1])
    leave_re, leave_im = complex_product(c_re, c_im, re, im)
    head = (b_re * leave_re - b_im * leave_im).sum(-1)[:-1]  # K_0 .. K_{T-1} of every channel
    return ChunkTables(
        _toeplitz(head.mT.to(dtype)),
        torch.cat(enter, dim=-1).flip(0).to(dtype).transpose(0, 1).contiguous(),
        torch.cat([leave_re, -leave_im], dim=-1)[1:].to(dtype).permute(1, 2, 0).contiguous(),
        torch.stack([re[chunk], im[chunk]], dim=-2),
        torch.stack([re[tail], im[tail]], dim=-2),
    )


def _toeplitz(head: Tensor) -> Tensor:
    """`[..., s, t] = head[..., t - s]`, zero below the diagonal."""
    size = head.shape[-1]
    return pad(head, (size - 1, 0)).unfold(-1, size, 1).flip(-2)
