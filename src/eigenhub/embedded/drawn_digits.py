# SPDX-License-Identifier: Apache-2.0
"""Digits to click and digits drawn by hand, in the form of the embedded ones."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from eigenhub.embedded.digits import IMAGE_SIZE, NUM_CLASSES, load_digits


def sample_digits() -> Tensor:
    """
    One digit of each class that no model of this package was trained on.

    Returns:
        `Tensor` of shape `(10, 1, 8, 8)` with values in [-1, 1], in the order of the classes.
    """
    columns = load_digits()["test"][:]
    labels = columns["labels"].tolist()
    return columns["pixel_values"][[labels.index(digit) for digit in range(NUM_CLASSES)]]


def digit_from_ink(ink: np.ndarray) -> Tensor | None:
    """
    A drawing in the manner of the embedded digits: cut to its strokes, centred in a square, averaged to 8 x 8.

    Args:
        ink (`np.ndarray` of shape `(height, width)`): 0 where nothing is drawn, up to 255.

    Returns:
        `Tensor` of shape `(1, 8, 8)` with values in [-1, 1], or `None` if nothing is drawn.
    """
    rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
    if not len(rows):
        return None
    strokes = torch.tensor(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / 255, dtype=torch.float32)
    height, width = strokes.shape
    side = max(height, width)
    square = torch.zeros(1, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[0, top : top + height, left : left + width] = strokes
    return 2 * adaptive_avg_pool2d(square, IMAGE_SIZE) - 1
