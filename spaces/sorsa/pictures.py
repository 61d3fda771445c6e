# SPDX-License-Identifier: Apache-2.0
"""Images on their way to a classifier, and embedded digits on their way to the page."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedConfig

from eigenhub.embedded.digits import IMAGE_SIZE, load_digits


SHOWN_SIZE = 256


def to_pixel_values(image: Image.Image, config: PreTrainedConfig, processor: Any) -> Tensor:
    """
    Input of an image classifier, `(1, channels, height, width)`.

    Args:
        image (`Image.Image`): any size and mode.
        config (`PreTrainedConfig`): of the classifier.
        processor (`Any`): its image processor; without one the image is resized and scaled to [-1, 1].
    """
    if processor is not None:
        return processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
    grey = getattr(config, "num_channels", 3) == 1
    # Box averages a digit that was enlarged for the page back to its own pixels, exactly.
    small = image.convert("L" if grey else "RGB").resize((config.image_size, config.image_size), Image.Resampling.BOX)
    values = torch.from_numpy(np.array(small)).float().view(config.image_size, config.image_size, -1)
    return (values / 127.5 - 1).permute(2, 0, 1)[None]  # [1, channels, height, width]


def sample_digits() -> list[Image.Image]:
    """One digit of each class that neither the embedded base nor its adapter was trained on."""
    columns = load_digits()["test"][:]
    labels = columns["labels"].tolist()
    return [_enlarge(columns["pixel_values"][labels.index(digit), 0].numpy() / 2 + 0.5) for digit in range(10)]


def digit_from_drawing(drawing: Image.Image) -> Image.Image | None:
    """
    A drawing in the manner of the embedded digits: light on dark, cut to the strokes, 8 x 8 averages of ink.

    Args:
        drawing (`Image.Image`): strokes of any colour on a transparent ground.

    Returns:
        The digit, or `None` if nothing has been drawn.
    """
    ink = drawing.convert("RGBA").getchannel("A")
    box = ink.getbbox()
    if box is None:
        return None
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    square = Image.new("L", (side, side))
    square.paste(ink.crop(box), ((side - right + left) // 2, (side - bottom + top) // 2))
    small = square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    return _enlarge(np.asarray(small) / 255)


def _enlarge(values: np.ndarray) -> Image.Image:
    """Values in [0, 1] as an image with pixels big enough to see."""
    image = Image.fromarray((values * 255).round().astype(np.uint8))
    return image.resize((SHOWN_SIZE, SHOWN_SIZE), Image.Resampling.NEAREST)
