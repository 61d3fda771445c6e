# SPDX-License-Identifier: Apache-2.0
"""The layers of a generator that read a style: names, sizes, and which entry of `ws` each of them takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StyleLayer:
    """One layer of the synthesis network that is steered by a style.

    Args:
        name (`str`): `"b{resolution}.conv0"` (upsampling), `".conv1"` or `".torgb"`.
        resolution (`int`): of its output.
        ws_index (`int`): entry of `ws` that it reads; a block's first convolution shares its entry with the image layer of
            the block before.
        in_channels (`int`): channels of its input, the length of the style.
        out_channels (`int`): channels of its output.
    """

    name: str
    resolution: int
    ws_index: int
    in_channels: int
    out_channels: int

    @property
    def kind(self) -> str:
        """`"conv0"`, `"conv1"` or `"torgb"`."""
        return self.name.rpartition(".")[2]


def resolutions(img_resolution: int) -> list[int]:
    """Resolutions of the blocks, from 4 up.

    Args:
        img_resolution (`int`): a power of two, at least 4.
    """
    return [2**k for k in range(2, img_resolution.bit_length())]


def num_channels(resolution: int, channel_base: int, channel_max: int) -> int:
    """Channels at a resolution.

    Args:
        resolution (`int`): of a block.
        channel_base (`int`): channels times resolution where the bound does not bite.
        channel_max (`int`): the bound.
    """
    return min(channel_base // resolution, channel_max)


def style_layers(img_resolution: int, img_channels: int, channel_base: int, channel_max: int) -> list[StyleLayer]:
    """All layers with a style, in the order in which they run.

    Args:
        img_resolution (`int`): of the images.
        img_channels (`int`): of the images.
        channel_base (`int`): see [`num_channels`].
        channel_max (`int`): see [`num_channels`].
    """
    layers, index, before = [], 0, 0
    for resolution in resolutions(img_resolution):
        channels = num_channels(resolution, channel_base, channel_max)
        if resolution > 4:
            layers.append(StyleLayer(f"b{resolution}.conv0", resolution, index, before, channels))
            index += 1
        layers.append(StyleLayer(f"b{resolution}.conv1", resolution, index, channels, channels))
        index += 1
        layers.append(StyleLayer(f"b{resolution}.torgb", resolution, index, channels, img_channels))
        before = channels
    return layers
