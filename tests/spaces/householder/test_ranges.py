# SPDX-License-Identifier: Apache-2.0
"""Layers that move together: edits against styles and latents moved by hand, directions against dense algebra."""

from dataclasses import replace

import gradio as gr
import pytest
import torch
from torch.testing import assert_close

from eigenhub.models.stylegan2 import sefa_directions
from eigenhub.models.stylegan2.projectors import affine_of
from tests.models.stylegan2.tiny import generator
from tests.spaces.tiny_gan import LAYER, LAYERS, RANGE, RANK, as_bytes, values_of


@pytest.fixture
def joint(choice):
    return replace(choice, layer=RANGE, basis="svd")


def weights_of(model):
    return [affine_of(model, name).effective_weight() for name in RANGE.split("+")]


def test_directions_are_those_of_one_long_style(space, joint, visit):
    model = space.generators.generator(joint.model)
    stacked = torch.cat(weights_of(model))
    found = space.finding.find(joint, visit)
    expected = torch.linalg.svd(stacked)[2][:RANK]
    assert_close((expected @ found.directions.vectors).abs(), torch.eye(RANK), atol=1e-4, rtol=0)
    steps = space.finding.unit_steps(model, found)
    assert_close(torch.linalg.vector_norm(stacked @ steps, dim=0), torch.ones(RANK))
    found = space.finding.find(replace(joint, basis="sefa"), visit)
    assert_close(found.directions.vectors, sefa_directions(weights_of(model), RANK).vectors)
    assert found.factors.shape == (RANK, 6)


@pytest.mark.parametrize("edit", ["ws", "style"])
def test_a_step_moves_all_layers_of_the_range(space, joint, visit, edit):
    joint = replace(joint, edit=edit)
    model, found = space.generators.generator(joint.model), space.finding.find(joint, visit)
    shift = 2 * space.finding.unit_steps(model, found)[:, 1]
    ws = model.mapping(model.latents(1, joint.number), truncation_psi=joint.psi)
    if edit == "ws":
        ws[:, [0, 1]] += shift  # of b4.conv1 and b8.conv0
        expected = model.synthesis(ws)
    else:
        moved = dict(zip(RANGE.split("+"), [(weight @ shift)[None] for weight in weights_of(model)], strict=True))
        expected = model.synthesis(ws, style_edits=moved)
    drawn = space.editing.along(joint, found, [[0.0, 2.0, 0.0]])
    assert (drawn.int() - as_bytes(expected).int()).abs().max() <= 1
    assert not drawn[0].equal(space.editing.unedited(joint))


def test_an_image_layer_does_not_move_its_latent_twice(space, joint):
    """`b4.torgb` reads the entry of `b8.conv0`."""
    model = space.generators.generator(joint.model)
    ws = model.mapping(model.latents(1, 0))
    moved = ws.clone()
    moved[:, 1] += 1
    drawn = space.rendering.edited(model, ws, [("b4.torgb+b8.conv0", "ws", torch.ones(ws.shape[-1]))], "const")
    assert_close(drawn, model.synthesis(moved))


def test_the_reach_grows_with_the_channels(space, joint):
    model = space.generators.generator(joint.model)
    assert (
        space.places.reach_of(model, RANGE) == 4.5 and space.places.reach_of(model, LAYER) == 3
    )  # 24 and 12 channels
    with pytest.raises(ValueError, match="each layer once"):
        space.places.reach_of(model, f"{LAYER}+{LAYER}")


def test_thirds_and_all_stand_in_the_menu(space, visit):
    names = [
        [layer.name for layer in group] for group in space.places.ranges(generator().add_projectors(LAYERS, RANK))
    ]
    assert names == [LAYERS[:2], LAYERS]  # four layers in thirds: two, one and one
    model = space.generators.generator(space.names.SHAPES)
    menu = [label for label, _ in space.reports.layer_choices(model, space.names.SHAPES, visit)]
    assert menu[-2:] == ["4 to 8 px, 2 layers together", "4 to 16 px, 4 layers together"]


def test_an_event_sent_before_the_menu_changed(space, joint, visit):
    """A basis that the range does not have becomes one that it has; a word that is no basis is refused."""
    for basis, expected in (("parameter", "svd"), ("sefa", "sefa")):
        assert space.choosing.chosen(values_of(replace(joint, basis=basis)), visit).basis == expected
    menu, *_ = space.events.choose("sliders", *values_of(replace(joint, basis="parameter")), visit)
    assert menu.value == "svd" and [name for _, name in menu.choices] == ["svd", "sefa"]
    for change, said in ({"basis": "pca"}, "basis must be one of"), ({"layer": "b7.conv0"}, "must be one of b4.conv1"):
        with pytest.raises(gr.Error, match=said):
            space.choosing.chosen(values_of(replace(joint, **change)), visit)


def test_names_of_a_range_travel(space, joint, visit):
    path, _ = space.labels.write_archive(joint, visit.named(joint.place, 1, "hue"))
    model, given = space.generators.generator(joint.model), space.labels.read_archive(path)
    assert space.labels.fitting(model, given)[RANGE].labels == {1: "hue"}
    taken = space.labels.taken(joint, visit, given)
    found = space.finding.find(replace(joint, basis="saved"), taken)
    assert_close(found.effects, space.finding.find(joint, visit).effects)
    assert space.records.file_name(joint, 0) == "sample-3_b4-conv1-to-b8-conv0_svd_direction-1"
