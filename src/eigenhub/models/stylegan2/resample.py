# SPDX-License-Identifier: Apache-2.0
"""Change of resolution with a low-pass filter (upfirdn: up, finite impulse response, down), on plain tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def separable_filter(taps: Sequence[float]) -> Tensor:
    """The two-dimensional filter of sum one, in float32.

    Args:
        taps (`Sequence[float]`): one row of it, of any scale.

    Returns:
        `Tensor` of shape `(taps, taps)`.
    """
    row = torch.tensor(list(taps), dtype=torch.float32, device="cpu")
    square = torch.outer(row, row)
    return square / square.sum()


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    gain: float = 1.0,
    bias: Tensor | None = None,
) -> Tensor:
    r"""Zeros between pixels, a margin, a convolution with `kernel` (turned by half a turn), every `down`-th pixel.

    Args:
        x (`Tensor` of shape `(batch, channels, height, width)`): images.
        kernel (`Tensor` of shape `(taps, taps)`): filter.
        up (`int`, *optional*, defaults to 1): factor of upsampling.
        down (`int`, *optional*, defaults to 1): factor of downsampling.
        padding (`tuple[int, int]`, *optional*, defaults to `(0, 0)`): margin before and after, in both directions; negative
            numbers cut.
        gain (`float`, *optional*, defaults to 1.0): factor on the result; `up ** 2` keeps the brightness.
        bias (`Tensor` of shape `(channels,)`, *optional*): added to the result.

    Returns:
        `Tensor` of shape `(batch, channels, ...)` with sides `(side * up + sum(padding) - taps) // down + 1`.
    """
    batch, channels, height, width = x.shape
    if up > 1:
        x = F.pad(x[..., None, :, None], (0, up - 1, 0, 0, 0, up - 1))
        x = x.reshape(batch, channels, height * up, width * up)
    margin = 0
    if padding[0] == padding[1] and padding[0] >= 0:
        margin = padding[0]
    else:
        x = F.pad(x, (*padding, *padding))
    weight = (gain * kernel.flip(0, 1)).to(x.dtype)
    if down == 1 and not weight.requires_grad and not torch.compiler.is_compiling():  # which takes no `jvp`
        smoothed: Tensor = Smoothing.apply(x, weight, bias, margin)
        return smoothed
    weight = weight.expand(channels, 1, *kernel.shape)
    return F.conv2d(x, weight, bias, stride=down, padding=margin, groups=channels)


class Smoothing(torch.autograd.Function):
    """One filter over every channel, whose gradient is one too: the backward pass of a grouped convolution takes longer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, margin: int) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(x, weight.expand(channels, 1, *weight.shape), bias, padding=margin, groups=channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, _, ctx.margin = inputs
        ctx.save_for_backward(weight)
        ctx.save_for_forward(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (weight,), (grad,) = ctx.saved_tensors, grads
        x_grad = bias_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = Smoothing.apply(grad, weight.flip(0, 1).to(grad.dtype), None, len(weight) - 1 - ctx.margin)
        if ctx.needs_input_grad[2]:
            bias_grad = grad.sum((0, 2, 3))
        return x_grad, None, bias_grad, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        (weight,), (x, _, bias, _) = ctx.saved_tensors, tangents
        moved = None if x is None else Smoothing.apply(x, weight, None, ctx.margin)
        if bias is None:
            return moved
        bias = bias[:, None, None]
        return bias if moved is None else moved + bias


def upsample_image(x: Tensor, kernel: Tensor) -> Tensor:
    """Images of twice the resolution.

    Args:
        x (`Tensor` of shape `(batch, channels, side, side)`): images.
        kernel (`Tensor` of shape `(taps, taps)`): filter.
    """
    taps = len(kernel)
    return upfirdn2d(x, kernel, up=2, padding=((taps + 1) // 2, (taps - 2) // 2), gain=4.0)


def smooth_after_transposed(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """The filter after a transposed 3 x 3 convolution of stride 2: from side `2 n + 1` to `2 n`.

    Args:
        x (`Tensor` of shape `(batch, channels, 2 n + 1, 2 n + 1)`): its output.
        kernel (`Tensor` of shape `(taps, taps)`): filter.
        bias (`Tensor` of shape `(channels,)`, *optional*): added to the result.
    """
    taps = len(kernel)
    return upfirdn2d(x, kernel, padding=((taps + 1) // 2 - 1, (taps - 2) // 2), gain=4.0, bias=bias)


def smooth_before_strided(x: Tensor, kernel: Tensor, side: int, down: int = 1) -> Tensor:
    """The filter before a convolution of stride 2 without a margin of its own.

    Args:
        x (`Tensor` of shape `(batch, channels, n, n)`): its input.
        kernel (`Tensor` of shape `(taps, taps)`): filter.
        side (`int`): of the convolution's kernel, odd.
        down (`int`, *optional*, defaults to 1): 2 takes the stride over, where the convolution is 1 x 1.
    """
    taps = len(kernel)
    return upfirdn2d(x, kernel, down=down, padding=((taps - 1) // 2 + side // 2, (taps - 2) // 2 + side // 2))
