# SPDX-License-Identifier: Apache-2.0
"""States of single-input single-output diagonal systems in closed form: what a first one adds, and the last one."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from eigenhub.linalg.autocast import without_autocast
from eigenhub.linalg.powers import complex_product, integer_power, power_table, wide_dtype
from eigenhub.linalg.siso_step import pair_product
from eigenhub.linalg.ssm_kernel import diagonal_kernel


# Steps that one matrix product sums up; the rest is a second, short sum.
INNER = 64


def state_response(lbar: Tensor, c: Tensor, state: Tensor, length: int) -> Tensor:
    r"""What an initial state adds to the outputs, $y_l = 2\,\mathrm{Re}\sum_n c_n s_n \bar\lambda_n^{l+1}$.

    Args:
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues.
        c (`Tensor` of shape `(channels, states, 2)`): output map.
        state (`Tensor` of shape `(batch, channels, states, 2)`): state before the first step.
        length (`int`): number of steps, at least 1.

    Returns:
        `Tensor` of shape `(batch, length, channels)` in the dtype of `state`.
    """
    wide = wide_dtype(state.dtype, state.device)
    coefficient = pair_product(pair_product(c.to(wide), lbar.to(wide)), state.to(wide))
    return diagonal_kernel(lbar, coefficient, length, state.dtype).mT


def final_state(
    u: Tensor, lbar: Tensor, bbar: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
) -> Tensor:
    r"""The state after the last step, $\bar\lambda^L s + \sum_l \bar\lambda^{L-1-l} \bar b u_l$, without the states between.

    Args:
        u (`Tensor` of shape `(batch, length, channels)`): input.
        lbar (`Tensor` of shape `(channels, states, 2)`): discrete eigenvalues.
        bbar (`Tensor` of shape `(channels, states, 2)`): discrete input map.
        state (`Tensor` of shape `(batch, channels, states, 2)`, *optional*): state before the first step, zero by default.
        lengths (`Tensor` of shape `(batch,)`, *optional*): integers, number of steps of every row; what is behind them is
            not looked at. All steps by default.

    Returns:
        `Tensor` of shape `(batch, channels, states, 2)` in the dtype of `u`, at least float32.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    wide = wide_dtype(dtype, u.device)
    batch, length, _ = u.shape
    if lengths is None:
        lengths = torch.full((batch,), length, device=u.device)
    else:
        u = _rolled(u, lengths)
    lbar_re, lbar_im = lbar.to(wide).unbind(-1)
    with without_autocast(u.device):
        total = _weighted_sum(u.to(dtype), lbar_re, lbar_im)
    final = pair_product(bbar.to(wide), torch.stack(total, dim=-1))
    if state is not None:
        power = integer_power(lbar_re, lbar_im, lengths[:, None, None], length)
        final = final + pair_product(torch.stack(power, dim=-1), state.to(wide))
    return final.to(dtype)


def _rolled(u: Tensor, lengths: Tensor) -> Tensor:
    """Rows moved to the right so that their steps end at the end, zeros in front of them."""
    steps = torch.arange(u.shape[1], device=u.device)
    source = steps - (u.shape[1] - lengths)[:, None]
    moved = u.gather(1, source.clamp(min=0)[..., None].expand_as(u))
    return torch.where((source >= 0)[..., None], moved, 0.0)


def _weighted_sum(u: Tensor, lbar_re: Tensor, lbar_im: Tensor) -> tuple[Tensor, Tensor]:
    """`sum_l lbar^(L-1-l) u_l` as `[batch, channels, states]`: inside blocks by a product, over blocks by a sum."""
    batch, length, channels = u.shape
    inner = max(1, min(INNER, length))
    re, im = power_table(lbar_re, lbar_im, inner + 1)  # [inner + 1, channels, states]
    powers = torch.cat([re, im], dim=-1)[:inner].flip(0).to(u.dtype).transpose(0, 1)
    blocks = max(1, -(-length // inner))
    rows = pad(u.permute(2, 0, 1), (blocks * inner - length, 0)).reshape(channels, batch * blocks, inner)
    local = torch.bmm(rows, powers).reshape(channels, batch, blocks, 2, lbar_re.shape[-1]).to(re.dtype)
    outer = power_table(re[inner], im[inner], blocks)
    weights = [part.flip(0).transpose(0, 1).unsqueeze(1) for part in outer]  # [channels, 1, blocks, states]
    total = complex_product(local[..., 0, :], local[..., 1, :], *weights)
    return total[0].sum(2).movedim(0, 1), total[1].sum(2).movedim(0, 1)
