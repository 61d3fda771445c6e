# SPDX-License-Identifier: Apache-2.0
"""Images on their way to the networks, and glyphs on their way to the page."""

from base64 import b64encode
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from eigenhub.embedded.glyphs import IMAGE_SIZE


SHOWN_SIZE = 112


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


def to_image(pixels: np.ndarray) -> Image.Image:
    """
    A glyph as an image with pixels big enough to see.

    Args:
        pixels (`NDArray` of shape `(1, 28, 28)`): values around 0 to 1.
    """
    values = (np.clip(pixels[0], 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(values).resize((SHOWN_SIZE, SHOWN_SIZE), Image.Resampling.NEAREST)


def data_url(image: Image.Image) -> str:
    """
    An image as text that stands in a page.

    Args:
        image (`Image.Image`): the image.
    """
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def _border(values: np.ndarray) -> tuple[np.ndarray, ...]:
    return values[0], values[-1], values[:, 0], values[:, -1]
