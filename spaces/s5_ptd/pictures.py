# SPDX-License-Identifier: Apache-2.0
"""Images on their way to the classifiers, and embedded digits on their way to the page."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eigenhub.embedded.digits import IMAGE_SIZE
from eigenhub.embedded.drawn_digits import digit_from_ink, sample_digits


SHOWN_SIZE = 256


def sample_images() -> list[Image.Image]:
    """One digit of each class that the classifiers have not seen."""
    return [shown(digit) for digit in sample_digits()]


def shown(digit: Tensor) -> Image.Image:
    """A digit `(1, 8, 8)` as an image with pixels big enough to see."""
    grey = ((digit[0] + 1) * 127.5).round().byte().numpy()
    return Image.fromarray(grey).resize((SHOWN_SIZE, SHOWN_SIZE), Image.Resampling.NEAREST)


def digit_from_image(image: Image.Image) -> Tensor:
    """An image of any size as a digit `(1, 8, 8)` with values in [-1, 1]."""
    # Box averages a digit that was enlarged for the page back to its own pixels, exactly.
    small = image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).float()[None] / 127.5 - 1


def digit_from_drawing(drawing: Image.Image) -> Image.Image | None:
    """Strokes on a transparent ground as a digit; `None` if there are none."""
    digit = digit_from_ink(np.array(drawing.convert("RGBA").getchannel("A")))
    return None if digit is None else shown(digit)
