# SPDX-License-Identifier: Apache-2.0
"""Linear and convolutional layers with equalised step sizes: unit-normal weights, scaled when they are used."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from eigenhub.linalg.autocast import without_autocast
from eigenhub.models.stylegan2.resample import smooth_before_strided


SLOPE = 0.2
ACTIVATION_GAIN = 2**0.5


class EqualizedLinear(nn.Module):
    r"""$y = x\,(W \ell / \sqrt{d_{in}})^\top + b\,\ell$ with weights that start from $N(0, 1)/\ell$; in float32 or better.

    Args:
        in_features (`int`): $d_{in}$.
        out_features (`int`): length of the output.
        lr_multiplier (`float`, *optional*, defaults to 1.0): $\ell$.
        activate (`bool`, *optional*, defaults to `False`): leaky ReLU and a gain of $\sqrt 2$ behind.
        bias_init (`float`, *optional*, defaults to 0.0): start of the bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        lr_multiplier: float = 1.0,
        activate: bool = False,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.lr_multiplier, self.activate, self.bias_init = lr_multiplier, activate, bias_init
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    @property
    def scale(self) -> float:
        """Factor between the stored and the effective weight."""
        return self.lr_multiplier * self.in_features**-0.5

    def reset_parameters(self) -> None:
        """Draws the weight."""
        init.normal_(self.weight, std=1.0 / self.lr_multiplier)
        init.constant_(self.bias, self.bias_init)

    def effective_weight(self) -> Tensor:
        """What multiplies the input, `(out_features, in_features)`, float32 or better."""
        return self.weight.to(torch.promote_types(self.weight.dtype, torch.float32)) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        with without_autocast(x.device):
            weight = self.effective_weight()
            x = F.linear(x.to(weight.dtype), weight, self.bias.to(weight.dtype) * self.lr_multiplier)
            return F.leaky_relu(x, SLOPE).mul_(ACTIVATION_GAIN) if self.activate else x

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, lr_multiplier={self.lr_multiplier}, activate={self.activate}"


class EqualizedConv2d(nn.Module):
    r"""A convolution with weights in the scale $1/\sqrt{I k^2}$, leaky ReLU with gain and clamp, or neither.

    Args:
        in_channels (`int`): $I$.
        out_channels (`int`): channels of the output.
        side (`int`): $k$, odd.
        down (`bool`, *optional*, defaults to `False`): halve the resolution, after smoothing.
        bias (`bool`, *optional*, defaults to `True`): a bias and the activation.
        clamp (`float`, *optional*): bound on the activated output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        side: int,
        down: bool = False,
        bias: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.side, self.down, self.clamp = in_channels, side, down, clamp
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, side, side))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Draws the weight."""
        init.normal_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Tensor, kernel: Tensor, gain: float = 1.0) -> Tensor:
        """`kernel` smooths before a halving; `gain` is a further factor on the output and its bound."""
        factor = gain * (1.0 if self.bias is None else ACTIVATION_GAIN)  # leaky ReLU commutes with positive factors
        weight = (self.weight * (factor * (self.in_channels * self.side**2) ** -0.5)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * factor).to(x.dtype)
        stride, padding = 1, self.side // 2
        if self.down:
            pointwise = self.side == 1
            x = smooth_before_strided(x, kernel, self.side, down=2 if pointwise else 1)
            stride, padding = 1 if pointwise else 2, 0
        x = F.conv2d(x, weight, bias, stride=stride, padding=padding)
        return x if self.bias is None else activated(x, None if self.clamp is None else self.clamp * gain)


def activated(x: Tensor, clamp: float | None = None) -> Tensor:
    """Leaky ReLU in place, and a bound; the gain is a factor of what comes in.

    Args:
        x (`Tensor`): a tensor that nobody else reads.
        clamp (`float`, *optional*): bound.
    """
    x = F.leaky_relu_(x, SLOPE)
    return x if clamp is None else x.clamp(-clamp, clamp)


def compute_dtype(weight: Tensor, use_fp16: bool = False) -> torch.dtype:
    """The dtype that convolutions run in: that of the weights, float16 in chosen blocks on a GPU, no half on a CPU.

    Args:
        weight (`Tensor`): a weight of the block.
        use_fp16 (`bool`, *optional*, defaults to `False`): whether the block is chosen.
    """
    if weight.device.type == "cpu":
        return torch.promote_types(weight.dtype, torch.float32)
    return torch.float16 if use_fp16 and weight.dtype == torch.float32 else weight.dtype
