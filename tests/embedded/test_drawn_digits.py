# SPDX-License-Identifier: Apache-2.0
"""Digits to click, and drawings in their manner."""

import numpy as np
import torch

from eigenhub.embedded.digits import load_digits
from eigenhub.embedded.drawn_digits import digit_from_ink, sample_digits


def test_samples_are_test_digits_in_order() -> None:
    columns = load_digits()["test"][:]
    samples = sample_digits()
    assert samples.shape == (10, 1, 8, 8)
    for digit, sample in enumerate(samples):
        place = (columns["pixel_values"] == sample).flatten(1).all(1).nonzero()[0, 0]
        assert columns["labels"][place] == digit


def test_a_drawing_is_cut_to_its_strokes_and_centred() -> None:
    """A stroke of 20 x 80 anywhere becomes two full columns in the middle of eight."""
    ink = np.zeros((100, 120), np.uint8)
    ink[15:95, 10:30] = 255
    digit = digit_from_ink(ink)
    assert digit is not None and digit.shape == (1, 8, 8)
    assert torch.equal(digit[0], torch.tensor([[-1, -1, -1, 1, 1, -1, -1, -1]] * 8).float())


def test_faint_ink_is_grey_and_none_is_nothing() -> None:
    ink = np.zeros((16, 16), np.uint8)
    assert digit_from_ink(ink) is None
    ink[:] = 51
    digit = digit_from_ink(ink)
    assert digit is not None
    torch.testing.assert_close(digit, torch.full((1, 8, 8), -0.6))
