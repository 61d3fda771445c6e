# SPDX-License-Identifier: Apache-2.0
"""Images on their way to the networks, and glyphs on their way to the page."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from eigenhub.embedded.glyphs import IMAGE_SIZE


SHOWN_SIZE = 112
FRAME = 6


def to_pixels(image: Image.Image) -> Tensor:
    """
    An image as the networks know glyphs, `(1, 1, 28, 28)`: bright strokes on a dark ground.

    Args:
        image (`Image.Image`): any size and mode; dark strokes on a bright ground are inverted.
    """
    grey = image.convert("L")
    edge = np.concatenate([part.ravel() for part in _border(np.asarray(grey))])
    if np.median(edge) > 127:
        grey = ImageOps.invert(grey)
    # Box averages a glyph that was enlarged for the page back to its own pixels, exactly.
    small = ImageOps.pad(grey, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None]


def to_image(pixels: np.ndarray, frame: str | None = None) -> Image.Image:
    """
    A glyph as an image with pixels big enough to see.

    Args:
        pixels (`NDArray` of shape `(1, 28, 28)`): values around 0 to 1.
        frame (`str`, *optional*): CSS colour of a frame.
    """
    values = (np.clip(pixels[0], 0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(values).resize((SHOWN_SIZE, SHOWN_SIZE), Image.Resampling.NEAREST)
    return image if frame is None else ImageOps.expand(image.convert("RGB"), FRAME, frame)


def _border(values: np.ndarray) -> tuple[np.ndarray, ...]:
    return values[0], values[-1], values[:, 0], values[:, -1]
