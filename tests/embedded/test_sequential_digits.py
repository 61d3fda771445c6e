# SPDX-License-Identifier: Apache-2.0
"""Digits as sequences: repeated pixels, rows in order."""

import pytest
import torch

from eigenhub.embedded.digits import load_digits
from eigenhub.embedded.sequential_digits import enlarge, load_sequential_digits, raster


@pytest.mark.parametrize("repeat", [1, 3])
def test_every_pixel_becomes_a_square(repeat: int) -> None:
    plain, large = load_digits()["test"][:], load_sequential_digits(repeat)["test"][:]
    assert torch.equal(large["labels"], plain["labels"])
    assert large["pixel_values"].shape == (597, 1, 8 * repeat, 8 * repeat)
    for row in range(repeat):
        for column in range(repeat):
            assert torch.equal(large["pixel_values"][..., row::repeat, column::repeat], plain["pixel_values"])


def test_raster_goes_row_after_row() -> None:
    pixels = torch.arange(2 * 2 * 2 * 3).view(2, 2, 2, 3)
    sequence = raster(pixels)
    assert sequence.shape == (2, 6, 2)
    assert sequence[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(sequence[1, 4], pixels[1, :, 1, 1])


def test_no_copies_is_an_error() -> None:
    with pytest.raises(ValueError, match="`repeat` must be at least 1, got 0"):
        enlarge(torch.zeros(1, 2, 2), 0)
