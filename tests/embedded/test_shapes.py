# SPDX-License-Identifier: Apache-2.0
"""Shapes against brute-force coverage and closed forms, every factor by itself, seeds."""

import math

import pytest
import torch

from eigenhub.embedded.shapes import FACTORS, load_shapes, render_shapes


MIDDLE = [0.5] * len(FACTORS)


def drawn(side: int = 64, **factors: float) -> torch.Tensor:
    """One image in [0, 1], float64."""
    row = [factors.get(name, middle) for name, middle in zip(FACTORS, MIDDLE, strict=True)]
    return (render_shapes(torch.tensor([row], dtype=torch.float64), side)[0] + 1) / 2


def covered(side: int = 64, **factors: float) -> torch.Tensor:
    """How much of every pixel the shape covers, from the background and the colour in the middle of the shape."""
    image = drawn(side, **factors)
    behind = image[:, 0, 0]
    channel = int((image - behind[:, None, None]).abs().amax((1, 2)).argmax())
    rows = image[channel] - behind[channel]
    return rows / rows.flatten()[rows.abs().argmax()]


@pytest.mark.parametrize("size", [8, 16, 32, 128])
def test_values_shapes_and_dtypes(size: int) -> None:
    found = load_shapes(6, size=size)
    assert found["image"].shape == (6, 3, size, size) and found["image"].dtype == torch.float32
    assert found["factors"].shape == (6, 6) and found["factors"].dtype == torch.float32
    assert found["image"].abs().max() <= 1 and found["image"].std() > 0.2
    assert torch.equal(render_shapes(found["factors"], size), found["image"])


@pytest.mark.parametrize("shape", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size_factor", [0.0, 0.6, 1.0])
def test_the_area_is_that_of_the_disc_whatever_the_shape(shape: float, size_factor: float) -> None:
    radius = 128 * (0.1 + 0.12 * size_factor)
    area = covered(128, shape=shape, size=size_factor).sum().item()
    assert area == pytest.approx(math.pi * radius**2, rel=5e-3)


def test_edges_are_smooth_and_where_they_belong() -> None:
    """Against the share of 32 x 32 points of each pixel that lie in the disc."""
    size, fine = 32, 32
    places = (torch.arange(size * fine, dtype=torch.float64) + 0.5) / (size * fine)
    centre_x, centre_y, radius = 0.3 + 0.4 * 0.21, 0.3 + 0.4 * 0.83, 0.1 + 0.12 * 0.7
    inside = (places[None] - centre_x) ** 2 + (places[:, None] - centre_y) ** 2 <= radius**2
    shares = inside.double().view(size, fine, size, fine).mean((1, 3))
    found = covered(size, x=0.21, y=0.83, size=0.7, shape=0.0)
    assert (found - shares).abs().max() < 0.12
    assert ((found > 0.05) & (found < 0.95)).sum() > 15


def test_a_square_has_corners_and_a_disc_has_none() -> None:
    square, disc = covered(128, shape=1.0), covered(128, shape=0.0)
    half = 128 * 0.16 * math.sqrt(math.pi) / 2
    inner = slice(round(64 - half) + 1, round(64 + half) - 1)
    assert square[inner, inner].min() == 1
    assert disc[inner, inner].min() == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_places(axis: int) -> None:
    name = FACTORS[axis]
    grid = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    for value in (0.0, 0.25, 1.0):
        mass = covered(**{name: value}).sum(axis)  # over rows for x, over columns for y
        assert ((mass * grid).sum() / mass.sum()).item() == pytest.approx(0.3 + 0.4 * value, abs=1e-3)


def test_colour_and_background() -> None:
    for value in (0.0, 0.5, 1.0):
        image = drawn(background=value, hue=value)
        assert torch.allclose(image[:, 0, 0], torch.full((3,), 0.1 + 0.8 * value).double())
        hue = 2 / 3 * value
        colour = [0.5 + 0.5 * math.cos(2 * math.pi * (hue - third / 3)) for third in range(3)]
        assert image[:, 32, 32].tolist() == pytest.approx(colour)
    assert drawn(hue=0.0)[:, 32, 32].argmax() == 0 and drawn(hue=1.0)[:, 32, 32].argmax() == 2


def test_no_shape_is_cut_by_the_frame() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # x, y, size
    rest = torch.tensor([[0.5, 0.0, 1.0]]).expand(len(corners), -1)
    images = render_shapes(torch.cat([corners, rest], 1), 32)
    frame = torch.cat([images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]], -1)
    assert (frame - images[:, :1, :1, 0]).abs().max() < 1e-6


def test_seeds_and_prefixes() -> None:
    first = load_shapes(600, size=8, seed=3)
    assert torch.equal(load_shapes(5, size=8, seed=3)["image"], first["image"][:5])
    assert not torch.equal(load_shapes(5, size=8)["factors"], first["factors"][:5])
    state = torch.random.get_rng_state()
    load_shapes(2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert load_shapes(1)["factors"][0, 0].item() == pytest.approx(0.5488135)  # of numpy's frozen stream


def test_factors_are_independent_and_fill_their_range() -> None:
    factors = load_shapes(4000, size=8)["factors"].double()
    assert (torch.corrcoef(factors.mT) - torch.eye(6)).abs().max() < 0.06
    assert (factors.mean(0) - 0.5).abs().max() < 0.02 and (factors.var(0) - 1 / 12).abs().max() < 0.01


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: load_shapes(0), "`count` must be at least 1, got 0"),
        (lambda: load_shapes(1, size=7), "`size` must be at least 8, got 7"),
        (
            lambda: render_shapes(torch.rand(2, 5)),
            r"`factors` must have shape \(count, 6\) for x, y, .*; got \(2, 5\)",
        ),
        (lambda: render_shapes(torch.full((1, 6), 1.5)), r"`factors` must lie in \[0, 1\], got 1.5 to 1.5"),
        (lambda: render_shapes(torch.full((1, 6), float("nan"))), r"`factors` must lie in \[0, 1\], got nan"),
    ],
)
def test_bad_questions(call, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
