# SPDX-License-Identifier: Apache-2.0
"""Augmentation: exact where it must be, differentiable twice, and as strong as the discriminator's signs ask for."""

import math

import pytest
import torch
from torch.nn import functional as F

from eigenhub.models.stylegan2 import AdaptiveAugment, r1_penalty
from eigenhub.models.stylegan2.augmentation import random_colours, random_geometry, recoloured, warped
from tests.models.stylegan2.tiny import gaussian


IDENTITY = torch.eye(3, dtype=torch.float64)


def warp(images, rows):
    return warped(images, torch.tensor(rows, dtype=images.dtype).expand(len(images), 3, 3))


def test_flips_and_quarter_turns_are_exact():
    images = gaussian(2, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(warp(images, IDENTITY.tolist()), images)
    assert torch.allclose(warp(images, [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]), images.flip(3))
    turned = warp(images, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert torch.allclose(turned, images.rot90(1, (2, 3))) or torch.allclose(turned, images.rot90(-1, (2, 3)))


def test_whole_pixels_are_moved_and_margins_mirrored():
    images = gaussian(1, 1, 8, 8, dtype=torch.float64)
    moved = warp(images, [[1, 0, 0.5], [0, 1, 0], [0, 0, 1]])  # a quarter of the side: two pixels
    expected = torch.cat([images[..., 2:], images[..., [7, 6]]], dim=3)
    assert torch.allclose(moved, expected)


def test_a_warp_equals_grid_sample_where_there_is_no_margin():
    images = gaussian(3, 2, 9, 7, dtype=torch.float64)
    maps = IDENTITY.repeat(3, 1, 1)
    maps[:, :2, :2] += 0.1 * gaussian(3, 2, 2, seed=1, dtype=torch.float64)
    maps[:, :2, :2] *= 0.7
    grid = F.affine_grid(maps[:, :2], list(images.shape), align_corners=False)
    expected = F.grid_sample(images, grid, align_corners=False, padding_mode="reflection")
    assert torch.allclose(warped(images, maps), expected)


def test_augmentation_has_two_derivatives():
    torch.manual_seed(0)
    maps, colours = random_geometry(2, 0.9), random_colours(2, 0.9)

    def function(x):
        return recoloured(warped(x, maps), colours).square()

    images = gaussian(2, 3, 4, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(function, (images,), fast_mode=True)


def test_r1_is_taken_in_front_of_the_augmentation():
    augment = AdaptiveAugment(p=0.8)
    images = gaussian(4, 3, 8, 8).requires_grad_()
    weight = torch.ones((), requires_grad=True)
    penalty = r1_penalty((weight * augment(images)).square().sum((1, 2, 3)), images)
    penalty.backward()
    assert weight.grad.item() == pytest.approx(
        4 * penalty.item(), rel=1e-4
    )  # the penalty is of the fourth degree in it


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_of_image(channels):
    images = gaussian(64, channels, 8, 8)
    assert AdaptiveAugment(p=0.0)(images) is images
    changed = (AdaptiveAugment(p=0.3)(images) - images).flatten(1).abs().amax(1) > 1e-4
    assert 40 < changed.sum() <= 64
    if channels == 4:
        coloured = AdaptiveAugment(p=1.0, geometry=False)(images)
        assert torch.equal(coloured[:, 3], images[:, 3]) and not torch.allclose(coloured[:, :3], images[:, :3])


def test_each_change_has_its_probability():
    torch.manual_seed(0)
    for make, size in ((random_geometry, 3), (random_colours, 4)):
        maps = make(4000, 0.1)
        same = (maps - torch.eye(size, dtype=torch.float64)).abs().amax((1, 2)) < 1e-9
        # flips, turns, shifts, scale, rotation, stretch, fractions: 7; a flip or a turn may turn out to be none
        expected = 0.95 * 0.925 * 0.9**5 if size == 3 else 0.95 * 0.9**4
        assert same.double().mean().item() == pytest.approx(expected, abs=0.03)


def test_colours_keep_what_they_must():
    torch.manual_seed(0)
    maps = random_colours(200, 1.0)
    luma = torch.ones(3, dtype=torch.float64) / math.sqrt(3)
    grey = maps[:, :3, :3] @ luma  # greys stay greys
    assert torch.allclose(grey, (grey @ luma)[:, None] * luma, atol=1e-9)
    image = gaussian(200, 1, 2, 2, dtype=torch.float64)
    as_colour = recoloured(image.expand(-1, 3, -1, -1), maps)
    assert torch.allclose(recoloured(image, maps), as_colour.mean(1, keepdim=True))


def test_the_probability_follows_the_signs():
    augment = AdaptiveAugment(p=0.5, target=0.6, kimg=1.0)
    augment.observe(torch.tensor([[1.0], [2.0], [3.0], [-1.0]]))  # mean sign 0.5: below
    augment.observe(torch.tensor([[1.0], [2.0], [3.0], [1.0]]))  # together 0.75: above
    assert augment.adapt(100) == pytest.approx(0.75)
    assert augment.p.item() == pytest.approx(0.6) and augment.signs.tolist() == [0, 0]
    augment.observe(torch.tensor([[1.0], [-2.0]]), across=lambda mean: mean + 0.2)
    assert augment.adapt(50) == pytest.approx(0.2)
    assert augment.p.item() == pytest.approx(0.55)
    for sign, limit in ((1.0, 1.0), (-1.0, 0.0)):
        augment.observe(torch.tensor([[sign]]))
        augment.adapt(10_000)
        assert augment.p.item() == limit
    again = AdaptiveAugment()
    augment.p.fill_(0.123)
    again.load_state_dict(augment.state_dict())
    assert again.p.item() == augment.p.item()


def test_without_a_target_the_probability_stays():
    augment = AdaptiveAugment(p=0.25, target=None)
    augment.observe(torch.ones(4, 1))
    assert augment.adapt(1_000_000) == 1.0 and augment.p.item() == 0.25


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"p": 1.5}, r"`p` must be in \[0, 1\], got 1.5"),
        ({"target": 1.0}, r"`target` must be in \(-1, 1\), got 1.0"),
        ({"kimg": 0}, "`kimg` must be positive, got 0"),
    ],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        AdaptiveAugment(**settings)


def test_two_channels_have_no_colour():
    with pytest.raises(ValueError, match="`images` must have 1, 3 or 4 channels, got 2"):
        recoloured(torch.zeros(1, 2, 4, 4), torch.eye(4)[None])


def test_autocast_changes_nothing():
    augment, images = AdaptiveAugment(p=1.0), gaussian(4, 3, 16, 16)
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(augment(images))
    assert torch.equal(*found)
