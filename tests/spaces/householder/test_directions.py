# SPDX-License-Identifier: Apache-2.0
"""Directions of the library with their effects on pixels, beside those of SeFa."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from eigenhub.embedded.shape_factors import measure_shapes
from eigenhub.models.stylegan2 import sefa_directions
from eigenhub.models.stylegan2.projectors import affine_of
from tests.models.stylegan2.tiny import generator
from tests.spaces.tiny_gan import LAYER, RANK


def test_bases_that_a_layer_allows(space, choice, visit):
    bases = space.finding.bases_of
    model, before = (space.generators.generator(name) for name in (space.names.SHAPES, space.names.SHAPES_BEFORE))
    assert bases(model, LAYER, "") == ["parameter", "jacobian", "sefa"]
    assert bases(model, LAYER, "somebody/before") == ["parameter", "jacobian", "aligned", "sefa"]
    assert bases(before, LAYER, "") == ["svd", "jacobian", "sefa"]
    learned = generator().add_projectors([LAYER], RANK, singular_values="learned")
    assert "svd" in bases(learned, LAYER, "")
    with pytest.raises(ValueError, match="has the bases parameter, jacobian, aligned, sefa, not 'svd'"):
        space.finding.find(replace(choice, basis="svd"), visit)


def test_aligned_directions_are_close_to_those_before(space, choice, visit):
    before = space.generators.generator(space.names.SHAPES_BEFORE)
    vh = torch.linalg.svd(affine_of(before, LAYER).effective_weight())[2][:RANK]
    found = space.finding.find(replace(choice, basis="aligned"), visit)
    overlap = (vh @ found.directions.vectors).abs()
    assert_close(overlap, torch.eye(RANK), atol=1e-3, rtol=0)  # nearest projector: the same span


@pytest.mark.parametrize("basis", ["parameter", "jacobian"])
def test_effects_are_mean_changes_of_pixels(space, choice, visit, basis):
    found = space.finding.find(replace(choice, basis=basis), visit)
    model = space.generators.generator(choice.model)
    count, far = space.finding.num_samples(model), space.places.reach_of(model, LAYER)
    ws = model.mapping(torch.cat([model.latents(1, i) for i in range(count)]), truncation_psi=0.7)
    for k in range(RANK):
        ends = model.traverse(ws, LAYER, k, [-far / 2, far / 2], directions=found.directions).clamp(-1, 1)
        assert found.effects[k] == pytest.approx((ends[:, 1] - ends[:, 0]).abs().mean().item() / 4, rel=1e-4)
        change = (measure_shapes(ends[:, 1]) - measure_shapes(ends[:, 0])).abs() / 2
        assert_close(found.factors[k], change.nanmean(0).nan_to_num(), atol=1e-4, rtol=0)
    assert found.dead == (False,) * RANK
    largest = found.directions.vectors.gather(0, found.directions.vectors.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()


def test_dead_directions_are_marked_and_idle_ones_left_out(space, choice, visit, monkeypatch):
    vectors = space.finding.find(choice, visit).directions.vectors
    idle = torch.linalg.svd(vectors.mT)[2][RANK:].mT[:, :1]  # outside of the span: the projector does not see it
    given = space.finding.Directions(torch.cat([vectors, idle], 1), torch.ones(RANK + 1))
    assert space.finding.told(choice.model, LAYER, "saved", given, "ws").count == RANK
    monkeypatch.setattr(space.finding, "effects_of", lambda *_: (torch.tensor([1.0, 0.049, 0.051]), None))
    found = space.finding.told(choice.model, LAYER, "saved", given, "ws")
    assert found.dead == (False, True, False)
    title = space.reports.direction_title
    assert title(choice, visit, found, 1) == "2 · dead"
    assert title(choice, visit.named(choice.place, 0, "size"), found, 0) == "1 · size · 100.0%"
    assert space.reports.effect_table(choice, visit, found).count("next to nothing") == 1
    assert "1 of them dead" in space.sections.spread("Ours", found)


def test_sefa_is_that_of_the_unprojected_weights(space, choice, visit):
    before = space.generators.generator(space.names.SHAPES_BEFORE)
    found = space.finding.find(replace(choice, model=space.names.SHAPES_BEFORE, basis="sefa", other=""), visit)
    expected = sefa_directions([affine_of(before, LAYER).effective_weight()], found.count)
    assert_close(found.directions.vectors, expected.vectors)
    ours, words, theirs, their_words = space.sections.sefa(choice, visit)
    assert ours.size == theirs.size and "before projection" in their_words and "parameter" in words
    assert "weights of this same generator" in space.sections.sefa(replace(choice, other=""), visit)[3]
