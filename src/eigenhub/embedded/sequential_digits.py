# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits as long sequences: every pixel repeated, row after row."""

import torch
from datasets import Array3D, Dataset, DatasetDict, Features
from torch import Tensor

from eigenhub.embedded.digits import IMAGE_SIZE, load_digits


def load_sequential_digits(repeat: int = 2) -> DatasetDict:
    """
    The embedded digits enlarged by repetition, for models that read an image as a sequence of pixels.

    Args:
        repeat (`int`, *optional*, defaults to 2): every pixel becomes a square of this side: sequences of `64 * repeat**2`.

    Returns:
        `DatasetDict` with the splits and columns of [`~eigenhub.embedded.digits.load_digits`] and `pixel_values` of shape
        `(1, 8 * repeat, 8 * repeat)`.

    Example:

    ```python
    >>> from eigenhub.embedded.sequential_digits import load_sequential_digits

    >>> load_sequential_digits()["test"][0]["pixel_values"].shape
    torch.Size([1, 16, 16])
    ```
    """
    return DatasetDict({name: _enlarged(split, repeat) for name, split in load_digits().items()})


def _enlarged(split: Dataset, repeat: int) -> Dataset:
    columns = split[:]
    side = IMAGE_SIZE * repeat
    features = Features({**split.features, "pixel_values": Array3D((1, side, side), "float32")})
    pixels = enlarge(columns["pixel_values"], repeat).numpy()
    return Dataset.from_dict({**columns, "pixel_values": pixels}, features=features).with_format("torch")


def enlarge(pixel_values: Tensor, repeat: int) -> Tensor:
    """
    Images with every pixel repeated in both directions.

    Args:
        pixel_values (`Tensor` of shape `(..., height, width)`): images.
        repeat (`int`): number of copies in each direction, at least 1.
    """
    if repeat < 1:
        raise ValueError(f"`repeat` must be at least 1, got {repeat}")
    return pixel_values.repeat_interleave(repeat, -2).repeat_interleave(repeat, -1)


def raster(pixel_values: Tensor) -> Tensor:
    """
    Images as sequences of pixels, row after row.

    Args:
        pixel_values (`Tensor` of shape `(batch, channels, height, width)`): images.

    Returns:
        `Tensor` of shape `(batch, height * width, channels)`.
    """
    return torch.flatten(pixel_values, 2).mT
