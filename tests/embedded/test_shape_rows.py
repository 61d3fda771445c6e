# SPDX-License-Identifier: Apache-2.0
import torch

from eigenhub.embedded.shape_rows import load_disc_rows, load_shape_rows
from eigenhub.embedded.shapes import load_shapes, render_shapes


def test_rows_are_the_first_shapes_and_then_the_next():
    rows, shapes = load_shape_rows(3, 2, size=8, seed=1), load_shapes(5, size=8, seed=1)
    for name, column in shapes.items():
        assert torch.equal(torch.cat([rows["train"][:][name], rows["test"][:][name]]), column)


def test_discs_are_shapes_without_corners():
    test = load_disc_rows(3, 2, size=8)["test"][:]
    round_ones = torch.cat([test["factors"], torch.zeros(2, 1)], 1)
    assert torch.equal(test["image"], render_shapes(round_ones, 8))
