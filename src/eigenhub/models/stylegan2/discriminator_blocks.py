# SPDX-License-Identifier: Apache-2.0
"""The blocks of the discriminator: residual ones that halve the resolution, and the last one, which compares samples."""

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from eigenhub.models.stylegan2.configuration_stylegan2 import StyleGAN2Config
from eigenhub.models.stylegan2.equalized import EqualizedConv2d, EqualizedLinear, compute_dtype


class DiscriminatorBlock(GradientCheckpointingLayer):
    r"""$(\text{two convolutions} + \text{skip}) / \sqrt 2$ at half the resolution; the first block reads the image.

    Args:
        resolution (`int`): of its input.
        config ([`StyleGAN2Config`]): of the model.
    """

    def __init__(self, resolution: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.use_fp16 = config.fp16_from is not None and resolution >= config.fp16_from
        here, next_ = config.channels_at(resolution), config.channels_at(resolution // 2)
        clamp = config.conv_clamp
        if resolution == config.img_resolution:
            self.fromrgb = EqualizedConv2d(config.img_channels, here, 1, clamp=clamp)
        self.conv0 = EqualizedConv2d(here, here, 3, clamp=clamp)
        self.conv1 = EqualizedConv2d(here, next_, 3, down=True, clamp=clamp)
        self.skip = EqualizedConv2d(here, next_, 1, down=True, bias=False)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        dtype = compute_dtype(self.conv0.weight, self.use_fp16)
        x = x.to(dtype)
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x, kernel)
        skip = self.skip(x, kernel, gain=0.5**0.5)
        return skip + self.conv1(self.conv0(x, kernel), kernel, gain=0.5**0.5)


class DiscriminatorEpilogue(nn.Module):
    """The block at 4 px, in float32 or better.

    Args:
        config ([`StyleGAN2Config`]): of the model.
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        channels = config.channels_at(4)
        self.group_size, self.num_channels = config.mbstd_group_size, config.mbstd_channels
        self.conv = EqualizedConv2d(channels + config.mbstd_channels, channels, 3, clamp=config.conv_clamp)
        self.fc = EqualizedLinear(channels * 16, channels, activate=True)
        self.out = EqualizedLinear(channels, config.condition_dim or 1)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.num_channels:
            x = torch.cat([x, minibatch_deviation(x, self.group_size, self.num_channels)], dim=1)
        x = self.conv(x, kernel)
        return self.out(self.fc(x.flatten(1)))


def minibatch_deviation(x: Tensor, group_size: int, channels: int = 1) -> Tensor:
    """Mean standard deviation over groups of samples, as further channels: what a lack of variety shows in.

    Args:
        x (`Tensor` of shape `(batch, features, height, width)`): features. Sample `i` belongs to group `i % (batch / size)`.
        group_size (`int`): samples per group; a smaller batch is one group.
        channels (`int`, *optional*, defaults to 1): number of channels.

    Returns:
        `Tensor` of shape `(batch, channels, height, width)`.
    """
    batch, features, height, width = x.shape
    size = min(group_size, batch)
    if size == 0:
        return x.new_zeros(0, channels, height, width)
    if batch % size:
        raise ValueError(f"the batch must be divisible by `mbstd_group_size` = {size} or smaller, got {batch}")
    groups = x.reshape(size, -1, channels, features // channels, height, width)
    deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((2, 3, 4))  # [groups, channels]
    return deviation.repeat(size, 1)[:, :, None, None].expand(-1, -1, height, width)
