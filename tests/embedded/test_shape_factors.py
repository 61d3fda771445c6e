# SPDX-License-Identifier: Apache-2.0
"""Factors read from pixels, against those that the images were drawn from."""

import pytest
import torch

from eigenhub.embedded.shape_factors import measure_shapes
from eigenhub.embedded.shapes import FACTORS, load_shapes, render_shapes


@pytest.mark.parametrize(
    ("size", "mean", "largest"),
    [(16, (0.006, 0.006, 0.02, 1e-3, 1e-3, 0.12), 0.8), (32, (0.003, 0.003, 0.008, 1e-3, 1e-3, 0.05), 0.3)],
)
def test_the_inverse_of_drawing(size, mean, largest):
    data = load_shapes(1000, size)
    errors = (measure_shapes(data["image"]) - data["factors"]).abs()
    assert (errors.mean(0) < torch.tensor(mean)).all(), dict(zip(FACTORS, errors.mean(0).tolist(), strict=True))
    assert (errors.max(0).values < torch.tensor([0.03, 0.03, 0.08, 0.01, 0.01, largest])).all()


def test_one_factor_at_a_time():
    """A factor that moves is seen to move, and the others are seen to stay."""
    middle = torch.full((2, 6), 0.5)
    for k, name in enumerate(FACTORS):
        ends = middle.clone()
        ends[:, k] = torch.tensor([0.2, 0.8])
        change = measure_shapes(render_shapes(ends, 64)).diff(dim=0)[0]
        assert change[k] == pytest.approx(0.6, abs=0.1 if name == "shape" else 0.03), name
        change[k] = 0
        assert change.abs().max() < 0.05, name


def test_noise_moves_them_little():
    data = load_shapes(200, 32)
    noise = torch.randn(data["image"].shape, generator=torch.Generator().manual_seed(0))
    errors = (measure_shapes(data["image"] + 0.02 * noise) - data["factors"]).abs().mean(0)
    assert (errors[:5] < 0.02).all()


def test_an_image_without_a_shape():
    found = dict(zip(FACTORS, measure_shapes(torch.zeros(1, 3, 16, 16))[0], strict=True))
    assert found["background"] == pytest.approx(0.5) and found["size"] < 0
    assert all(found[name].isnan() for name in ("x", "y", "hue", "shape"))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 8, 9)])
def test_other_images_are_refused(shape):
    with pytest.raises(ValueError, match="`images` must have shape"):
        measure_shapes(torch.zeros(shape))
