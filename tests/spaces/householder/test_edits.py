# SPDX-License-Identifier: Apache-2.0
"""Edits against the model's own traversal; one on top of another; strips, films and pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from eigenhub.embedded.shapes import load_shapes
from eigenhub.models.stylegan2 import StyleGAN2Generator
from tests.spaces.tiny_gan import LAYER, as_bytes, path_of, values_of


@pytest.mark.parametrize("edit", ["ws", "style"])
@pytest.mark.parametrize("basis", ["parameter", "jacobian", "aligned", "sefa"])
def test_a_step_of_a_slider_is_a_step_of_the_library(space, choice, visit, edit, basis):
    choice = replace(choice, edit=edit, basis=basis)
    found = space.finding.find(choice, visit)
    model = space.generators.generator(choice.model)
    ws = model.mapping(model.latents(1, 3), truncation_psi=0.7)
    alphas = [-1.5, 0.0, 2.0]
    expected = model.traverse(ws, LAYER, 1, alphas, edit=edit, directions=found.directions)[0]
    drawn = space.editing.along(choice, found, [[0.0, alpha, 0.0] for alpha in alphas])
    assert (drawn.int() - as_bytes(expected).int()).abs().max() <= 1
    assert not drawn[0].equal(drawn[2])
    assert drawn[1].equal(space.editing.unedited(choice))


def test_edits_that_are_kept_add_up(space, choice, visit):
    found = space.finding.find(choice, visit)
    both = space.editing.along(choice, found, [[1.0, -0.5, 0.0]])
    first = space.editing.shift_of(choice, found, [1.0, 0.0, 0.0])
    assert space.editing.along(choice, found, [[0.0, -0.5, 0.0]], (first,)).equal(both)
    strict = replace(choice, edit="style")
    first = space.editing.shift_of(strict, found, [1.0, 0.0, 0.0])
    kept = space.editing.along(strict, found, [[0.0, -0.5, 0.0]], (first,))
    assert kept.equal(space.editing.along(strict, found, [[1.0, -0.5, 0.0]])) and not kept.equal(both)


def test_reach_follows_the_length_of_styles(space):
    model = space.generators.generator(space.names.SHAPES)
    with torch.device("meta"):
        large = StyleGAN2Generator(type(model.config)(img_resolution=256))
    reach = space.places.reach_of
    assert reach(large, LAYER) == 20 and reach(large, "b256.conv0") == 14
    assert reach(model, LAYER) == 3  # 12 channels


def test_edits_of_two_layers(space, choice, visit):
    steps = [2.0, 0.0, 0.0, *[0.0] * 13]
    visit, words, *_ = space.events.keep("sliders", *values_of(choice), visit, *steps)
    assert words == "1 edit kept, in b8.conv0. The sliders come on top." and len(visit.kept) == 1
    other = replace(choice, layer="b16.conv0")
    both = space.events.move(*values_of(other), visit, *steps)
    alone = space.events.move(*values_of(other), space.visits.Visit(), *steps)
    assert not np.array_equal(np.array(both), np.array(alone))
    visit, words, before, after, *_ = space.events.undo("sliders", *values_of(other), visit, *steps)
    assert words == "" and visit.kept == () and np.array_equal(np.array(before), np.array(after))
    visit, words, *_ = space.events.keep("sliders", *values_of(choice), visit, *[0.0] * 16)
    assert visit.kept == ()


def test_films(space, choice, visit):
    values = [*values_of(choice), visit, 1, 2.0]
    film, file = space.strip_tab.gif(*values)
    with Image.open(path_of(file)) as gif:
        assert gif.n_frames == 2 * space.names.FILM_FRAMES - 2 and gif.size == (256, 256) and film.visible
    _, file = space.strip_tab.png(*values)
    with Image.open(path_of(file)) as image:
        assert image.width == 7 * 134 - 6 and image.mode == "RGBA"


def test_mp4(space, choice, visit):
    av = pytest.importorskip("av")
    _, file = space.strip_tab.mp4(*values_of(choice), visit, 1, 2.0)
    with av.open(path_of(file)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3 * (2 * space.names.FILM_FRAMES - 2)


def test_pictures_of_every_kind(space):
    for channels, mode in ((1, "L"), (3, "RGB"), (4, "RGBA")):
        pixels = torch.arange(channels * 64).view(channels, 8, 8).byte()
        image = space.pictures.to_image(pixels)
        assert image.mode == mode and np.array_equal(np.array(image).reshape(8, 8, channels), pixels.permute(1, 2, 0))
        assert space.pictures.to_image(pixels, 32).size == (32, 32)
    shapes = load_shapes(2, 32)["image"]
    small = space.rendering.to_bytes(shapes, 8)
    assert small.shape[-1] == 8 and small.dtype == torch.uint8
    assert_close(small / 127.5 - 1, torch.nn.functional.avg_pool2d(shapes, 4), atol=0.005, rtol=0)
