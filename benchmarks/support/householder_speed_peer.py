# SPDX-License-Identifier: Apache-2.0
"""StyleGAN2's synthesis as the pure-torch ports write it: one weight per sample, and filters by their definition.

Every modulated convolution is a grouped one whose weights are made for each sample, images lie channels first, and a change of
resolution inserts zeros, pads, filters and drops pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eigenhub.models.stylegan2 import StyleGAN2Generator
from eigenhub.models.stylegan2.synthesis import SynthesisLayer, ToImageLayer


Filter = Callable[[Tensor, Tensor], Tensor]


def one_channel_at_a_time(x: Tensor, kernel: Tensor) -> Tensor:
    """A filter as rosinality's port has it, which the official projector builds on: channels count as samples."""
    batch, channels, height, width = x.shape
    x = F.conv2d(x.reshape(-1, 1, height, width), kernel.flip(0, 1)[None, None])
    return x.reshape(batch, channels, *x.shape[2:])


def all_channels(x: Tensor, kernel: Tensor) -> Tensor:
    """A filter as the reference of stylegan2-ada-pytorch has it: one group per channel."""
    channels = x.shape[1]
    return F.conv2d(x, kernel.flip(0, 1)[None, None].repeat(channels, 1, 1, 1), groups=channels)


FILTERS: dict[str, Filter] = {"rosinality": one_channel_at_a_time, "stylegan2-ada": all_channels}


def peer_images(model: StyleGAN2Generator, z: Tensor, form: str) -> Tensor:
    """Images with constant noise, of the same parameters.

    Args:
        model ([`StyleGAN2Generator`]): without projectors.
        z (`Tensor` of shape `(batch, z_dim)`): latents.
        form (`str`): of `FILTERS`.
    """
    smooth, kernel = FILTERS[form], model.synthesis.resample_filter * 4
    ws = model.mapping(z)
    x = model.synthesis.blocks[0].const.repeat(len(z), 1, 1, 1)
    image = ws.new_zeros(len(z), model.config.img_channels, 2, 2)
    for block in model.synthesis.blocks:
        image = _doubled(image, kernel, smooth)
        for layer in block.layers:
            module, w = block.get_submodule(layer.kind), ws[:, layer.ws_index]
            if isinstance(module, SynthesisLayer):
                x = _styled(module, x, w, kernel, smooth)
            elif isinstance(module, ToImageLayer):
                image = image + _modulated(module, x, w) + module.bias[:, None, None]
    return image


def _styled(layer: SynthesisLayer, x: Tensor, w: Tensor, kernel: Tensor, smooth: Filter) -> Tensor:
    x = _modulated(layer, x, w, demodulate=True, up=layer.up)
    if layer.up:
        x = smooth(F.pad(x, (1, 1, 1, 1)), kernel)
    x = x + layer.noise_strength * layer.noise_const
    return F.leaky_relu(x + layer.bias[:, None, None], 0.2) * 2**0.5


def _modulated(
    layer: SynthesisLayer | ToImageLayer, x: Tensor, w: Tensor, demodulate: bool = False, up: bool = False
) -> Tensor:
    batch, channels, height, width = x.shape
    size = layer.weight.shape[-1]
    weight = layer.weight * (channels * size**2) ** -0.5 * _style(layer.affine, w)[:, None, :, None, None]
    if demodulate:
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * channels, height, width)
    if up:
        weight = weight.transpose(1, 2).reshape(batch * channels, -1, size, size)
        x = F.conv_transpose2d(x, weight, stride=2, groups=batch)
    else:
        x = F.conv2d(x, weight.reshape(-1, channels, size, size), padding=size // 2, groups=batch)
    return x.reshape(batch, -1, *x.shape[2:])


def _style(affine: Any, w: Tensor) -> Tensor:
    return F.linear(w, affine.weight * w.shape[1] ** -0.5, affine.bias)


def _doubled(image: Tensor, kernel: Tensor, smooth: Filter) -> Tensor:
    batch, channels, height, width = image.shape
    image = F.pad(image.reshape(batch, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
    image = image.reshape(batch, channels, 2 * height, 2 * width)
    return smooth(F.pad(image, (2, 1, 2, 1)), kernel)


def gradients(images: Callable[[], Tensor], model: StyleGAN2Generator) -> Callable[[], tuple[Tensor, ...]]:
    """A call that makes images and takes the gradient of every parameter; it returns all of them.

    Args:
        images (`Callable`): makes them.
        model ([`StyleGAN2Generator`]): whose parameters count.
    """
    parameters = list(model.parameters())

    def call() -> tuple[Tensor, ...]:
        found = images()
        upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
        return found.detach(), *torch.autograd.grad(found, parameters, upstream)

    return call
