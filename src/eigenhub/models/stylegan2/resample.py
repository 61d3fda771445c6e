# SPDX-License-Identifier: Apache-2.0
"""Change of resolution with a low-pass filter (upfirdn: up, finite impulse response, down), on plain tensors."""

from collections.abc import Sequence

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
    weight = (gain * kernel.flip(0, 1)).to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv2d(x, weight, bias, stride=down, padding=margin, groups=channels)


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
