# SPDX-License-Identifier: Apache-2.0
"""Convolutions whose weights a style scales per sample, in the form that costs least."""

import torch
from torch import Tensor
from torch.nn import functional as F

from eigenhub.models.stylegan2.resample import smooth_after_transposed


EPSILON = 1e-8


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    kernel: Tensor | None = None,
    bias: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    r"""$g\,d_o \sum_i W_{oi} * (s_i x_i) + b_o$ with the demodulation $d_o = (\sum_{i,k} (W_{oik} s_i)^2 + 10^{-8})^{-1/2}$, $W$ in
    the scale $1/\sqrt{I k^2}$.

    A single sample of high resolution scales the weights, everything else the activations before and after: both are the
    convolution with a weight of its own per sample (a grouped convolution), without holding those weights for a batch.
    In float16 weights and styles are normalised first, which the demodulation undoes.

    Args:
        x (`Tensor` of shape `(batch, in, height, width)`): input.
        weight (`Tensor` of shape `(out, in, 3, 3)`): unit-scale weight.
        styles (`Tensor` of shape `(batch, in)`): $s$, float32 or better.
        kernel (`Tensor` of shape `(taps, taps)`, *optional*): doubles the resolution and smooths with this filter.
        bias (`Tensor` of shape `(out,)`, *optional*): $b$.
        gain (`float`, *optional*, defaults to 1.0): $g$.

    Returns:
        `Tensor` of shape `(batch, out, height, width)`, or of twice the height and width.
    """
    weight = weight.to(styles.dtype)
    scale = (weight.shape[1] * weight.shape[2] * weight.shape[3]) ** -0.5
    if x.dtype == torch.float16:
        weight = weight / weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=EPSILON)
        styles = styles / styles.abs().amax(1, keepdim=True).clamp(min=EPSILON)
    energy = styles.square() @ weight.square().sum((2, 3)).mT  # [batch, out]
    demodulation = (gain * scale) * (energy * scale**2 + EPSILON).rsqrt()
    if len(x) == 1 and x.shape[2] * x.shape[3] > weight.shape[0] * 9:
        weight = weight * styles[0, :, None, None] * demodulation[0, :, None, None, None]
        return _convolve(x, weight.to(x.dtype), kernel, _like(bias, x))
    x = x * styles.to(x.dtype)[:, :, None, None]
    x = _convolve(x, weight.to(x.dtype), kernel, None) * demodulation.to(x.dtype)[:, :, None, None]
    return x if bias is None else x + bias.to(x.dtype)[:, None, None]


def modulated_conv2d_reference(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    kernel: Tensor | None = None,
    bias: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    """[`modulated_conv2d`] as a grouped convolution with one weight per sample, in float64.

    Args:
        x (`Tensor` of shape `(batch, in, height, width)`): input.
        weight (`Tensor` of shape `(out, in, 3, 3)`): unit-scale weight.
        styles (`Tensor` of shape `(batch, in)`): styles.
        kernel (`Tensor` of shape `(taps, taps)`, *optional*): filter of an upsampling.
        bias (`Tensor` of shape `(out,)`, *optional*): bias.
        gain (`float`, *optional*, defaults to 1.0): factor.
    """
    x, weight, styles = x.double(), weight.double(), styles.double()
    batch, channels, height, width = x.shape
    weights = weight[None] * styles[:, None, :, None, None] * (channels * weight.shape[2] * weight.shape[3]) ** -0.5
    weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + EPSILON).rsqrt()
    x = x.reshape(1, batch * channels, height, width)
    if kernel is None:
        x = F.conv2d(x, weights.flatten(0, 1), padding=1, groups=batch)
    else:
        x = F.conv_transpose2d(x, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        x = smooth_after_transposed(x, kernel.double())
    x = gain * x.reshape(batch, -1, *x.shape[2:])
    return x if bias is None else x + bias.double()[:, None, None]


def modulated_image(x: Tensor, weight: Tensor, styles: Tensor, bias: Tensor) -> Tensor:
    r"""The 1 x 1 convolution to an image, $\sum_i W_{oi} s_i x_i + b_o$ with $W$ in the scale $1/\sqrt I$, not demodulated.

    Args:
        x (`Tensor` of shape `(batch, in, height, width)`): input.
        weight (`Tensor` of shape `(out, in, 1, 1)`): unit-scale weight.
        styles (`Tensor` of shape `(batch, in)`): $s$, float32 or better.
        bias (`Tensor` of shape `(out,)`): $b$.

    Returns:
        `Tensor` of shape `(batch, out, height, width)`.
    """
    scale = weight.shape[1] ** -0.5
    weights = weight.flatten(1).to(styles.dtype) * (scale * styles)[:, None, :]  # [batch, out, in]
    image = torch.baddbmm(bias.to(x.dtype)[:, None], weights.to(x.dtype), x.flatten(2))  # [batch, out, pixels]
    return image.unflatten(-1, x.shape[2:])


def _convolve(x: Tensor, weight: Tensor, kernel: Tensor | None, bias: Tensor | None) -> Tensor:
    if kernel is None:
        return F.conv2d(x, weight, bias, padding=1)
    return smooth_after_transposed(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), kernel, bias)


def _like(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)
