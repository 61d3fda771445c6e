# SPDX-License-Identifier: Apache-2.0
"""Where an edit acts: one layer of a generator, or a range of layers that move together."""

from itertools import pairwise
from typing import Any

import torch
from names import JOIN
from torch import Tensor

from eigenhub.models.stylegan2.projectors import affine_of


#: Style vectors of 512 channels have a length of about 22, and sliders of 20 reach far; fewer channels need less.
REACH, REACH_CHANNELS = 20.0, 512


def layers_at(model: Any, place: str) -> list[Any]:
    """
    The layers of a place.

    Args:
        model (`StyleGAN2Generator`): the generator.
        place (`str`): a layer such as `"b8.conv0"`, or several such as `"b8.conv0+b8.conv1"`.
    """
    names = place.split(JOIN)
    if len(set(names)) < len(names):
        raise ValueError(f"`layer` must name each layer once, got {place!r}")
    return [model.config.layer(name) for name in names]  # with a message that lists them


def editable_layers(model: Any) -> list[Any]:
    """Layers with projectors, or all convolutions of a generator without."""
    names = model.config.projected_names
    layers = model.config.style_layers
    return [layer for layer in layers if (layer.name in names if names else layer.kind != "torgb")]


def ranges(model: Any) -> list[list[Any]]:
    """The coarse, the middle and the fine third of the editable layers, and all of them; each of two layers or more."""
    layers = editable_layers(model)
    cuts = [-(-i * len(layers) // 3) for i in range(4)]
    groups = [*(layers[begin:end] for begin, end in pairwise(cuts)), layers]
    return [group for group in groups if len(group) > 1]


def weight_at(model: Any, place: str) -> Tensor:
    """What makes the styles of a place, one below the other, `(channels, w_dim)`."""
    return torch.cat([affine_of(model, layer.name).effective_weight() for layer in layers_at(model, place)])


def reach_of(model: Any, place: str) -> float:
    """How far the sliders of a place go, in units of its style: 20 for 512 channels, in proportion to the root of their number."""
    channels = sum(layer.in_channels for layer in layers_at(model, place))
    return max(1.0, round(2 * REACH * (channels / REACH_CHANNELS) ** 0.5) / 2)
