# SPDX-License-Identifier: Apache-2.0
"""The world with planted factors, how it is measured, the rivals of the projector, and the proof in short."""

import copy
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eigenhub.linalg import gram_defect, orthonormalize, random_orthogonal, subspace_angles
from eigenhub.models.stylegan2.projectors import affine_of, projector_at
from tests.models.stylegan2.tiny import gaussian
from tests.scripts.loading import load_script
from tests.support.processes import ROOT


FOLDER = ROOT / "scripts" / "householder"
LAYER = "b8.conv0"


@pytest.fixture(scope="module")
def planted() -> Iterator[Any]:
    """The scripts, as one namespace."""
    sys.path.insert(0, str(FOLDER))
    modules = {name: load_script(FOLDER / f"planted{name}.py") for name in ("", "_measures", "_directions")}
    yield SimpleNamespace(**{k: v for module in modules.values() for k, v in vars(module).items() if k[0] != "_"})
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def world(planted: Any) -> Any:
    return planted.PlantedWorld(3)


# ---------------------------------------------------------------- the world
def test_latents_hold_the_factors_and_nothing_else(planted: Any, world: Any) -> None:
    m = world.planted
    assert m.shape == (32, 5) and gram_defect(m).abs().max() < 1e-5
    data = world.draw(4000, planted.TEST)
    assert torch.allclose(data.latents @ m, 12**0.5 * (data.factors - 0.5), atol=1e-5)
    covariance = torch.cov(data.latents.mT)
    assert (covariance - torch.eye(32)).abs().max() < 0.12  # no direction stands out by its variance
    assert torch.equal(data.images[:3], planted.discs(data.factors[:3]))


def test_worlds_and_uses_are_told_apart(planted: Any, world: Any) -> None:
    one = world.draw(4, planted.TEST)
    assert torch.equal(world.draw(4, planted.TEST).latents, one.latents)
    assert not torch.equal(world.draw(4, planted.TUNE).latents, one.latents)
    assert not torch.equal(planted.PlantedWorld(4).planted, world.planted)


# ---------------------------------------------------------------- measures
def test_what_an_affine_reads_of_the_noise(planted: Any, world: Any) -> None:
    m = world.planted
    rest = orthonormalize(torch.cat([m, gaussian(32, 27)], 1))[:, 5:]
    inside, noise = gaussian(8, 5) @ m.mT, gaussian(8, 27, seed=1) @ rest.mT
    assert planted.outside(inside, m) < 1e-9 and planted.outside(noise, m) == pytest.approx(1.0)
    mixed = inside / inside.norm() + 2 * noise / noise.norm()
    assert planted.outside(mixed, m) == pytest.approx(4 / 5, rel=1e-5)
    assert planted.principal_cosines(inside, m) == pytest.approx([1.0] * 5, abs=1e-6)
    half = gaussian(8, 3) @ m[:, :3].mT + 0.1 * gaussian(8, 2) @ rest[:, :2].mT
    assert planted.principal_cosines(half, m) == pytest.approx([1, 1, 1, 0, 0], abs=1e-4)
    assert planted.best_of_rank(mixed).shape == (8, 32)
    assert torch.linalg.matrix_rank(planted.best_of_rank(mixed), rtol=1e-9) == 5


def test_measured(planted: Any, world: Any) -> None:
    model = planted.new_generator(0)
    found = planted.measured(model, world)
    data = world.draw(planted.TEST_IMAGES, planted.TEST)
    with torch.no_grad():
        expected = (planted.images_of(model, data.latents) - data.images).square().mean().item()
    assert found["mse"] == pytest.approx(expected, rel=1e-5)
    for name in planted.LAYERS:
        assert found["outside"][name] == pytest.approx(27 / 32, abs=0.06)  # a Gaussian affine reads everything alike
        assert found["rank"][name] == 32


# ---------------------------------------------------------------- arms
def test_arms_change_every_convolution(planted: Any) -> None:
    model = planted.new_generator(0)
    before = {name: affine_of(model, name).effective_weight().detach() for name in planted.LAYERS}
    for arm in planted.ARMS:
        changed = copy.deepcopy(model)
        planted.ARMS[arm].prepare(changed)
        for name, weight in before.items():
            now = affine_of(changed, name).effective_weight().detach()
            if arm.startswith("control"):
                assert torch.equal(now, weight)
                continue
            values = torch.linalg.svdvals(now)
            assert (values[5:] < 1e-5 * values[0]).all() and values[4] > 0.1
            if arm.startswith("low_rank"):
                torch.testing.assert_close(now.double(), planted.best_of_rank(weight), rtol=0, atol=1e-5)


def test_the_learning_rate_of_affines_is_multiplied(planted: Any, world: Any) -> None:
    """One step of Adam moves every entry by its learning rate, whatever the gradient."""
    data = world.draw(planted.BATCH, planted.TUNE)
    for factor in (1.0, planted.FAST):
        model = planted.new_generator(0)
        before = copy.deepcopy(model)
        planted.regress(model, data, 1e-3, affine_lr=factor)
        weight = (affine_of(model, LAYER).weight - affine_of(before, LAYER).weight).abs()
        assert weight.median().item() == pytest.approx(1e-3 * factor, rel=0.01)
        bias = (affine_of(model, LAYER).bias - affine_of(before, LAYER).bias).abs()
        assert bias.median().item() == pytest.approx(1e-3, rel=0.01)


# ---------------------------------------------------------------- rivals
@pytest.fixture(scope="module")
def projected(planted: Any) -> Any:
    model = planted.new_generator(0)
    return model.add_projectors(list(planted.LAYERS), 5)


@pytest.mark.parametrize("name", ["parameter", "rotated", "jacobian", "svd", "sefa", "ganspace", "random"])
def test_every_set_is_orthonormal(planted: Any, projected: Any, name: str) -> None:
    latents = gaussian(60, 32)
    found = planted.direction_set(name, projected, LAYER, 5, latents)
    assert found.shape == (32, 5) and gram_defect(found).abs().max() < 1e-4
    span = projector_at(projected, LAYER).factors().right.detach()
    inside = subspace_angles(found, span).max() < 1e-3
    assert inside == (name not in ("ganspace", "random"))
    seeded = planted.direction_set(name, projected, LAYER, 5, latents, seed=1)
    assert torch.equal(seeded, found) == (name not in ("rotated", "random"))


def test_ganspace_finds_what_varies_most(planted: Any) -> None:
    scales = torch.cat([torch.tensor([9.0, 7.0, 5.0]), torch.ones(29)])
    turn = random_orthogonal(32, torch.Generator().manual_seed(0))
    latents = (gaussian(4000, 32) * scales + 3) @ turn.mT
    found = planted.direction_set("ganspace", planted.new_generator(0), LAYER, 3, latents)
    assert ((found * turn[:, :3]).sum(0).abs() > 0.99).all()
    with pytest.raises(ValueError, match="`name` must be one of parameter, rotated, .*; got 'pca'"):
        planted.direction_set("pca", None, LAYER, 3, latents)


def test_effects_are_those_of_edits_of_one_layer(planted: Any, projected: Any) -> None:
    latents = gaussian(8, 32)
    vectors = planted.direction_set("parameter", projected, LAYER, 2, latents)

    def means(images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))

    effects = planted.effects_of(projected, LAYER, vectors, latents, means, change=0.05)
    assert effects.matrix.shape == (2, 3) and effects.changes.tolist() == pytest.approx([0.05] * 2, rel=0.011)
    ws = latents[:, None].expand(-1, projected.config.num_ws, -1)
    alphas = [-effects.steps[1].item(), 0.0, effects.steps[1].item()]
    images = projected.traverse(ws, LAYER, 1, alphas, edit="style", unit="w", directions=vectors).flatten(0, 1)
    low, middle, high = means(images).view(8, 3, 3).unbind(1)
    expected = ((low - middle).abs().mean(0) + (high - middle).abs().mean(0)) / 2
    torch.testing.assert_close(effects.matrix[1].float(), expected, rtol=1e-3, atol=1e-5)
    assert planted.scores_of(effects)["disentanglement"] >= 0


# ---------------------------------------------------------------- the proof in short
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_projector_finds_the_planted_factors(planted: Any) -> None:
    """Against a plain fine-tune at the same learning rate.

    Nothing is claimed about orthogonality: a low-rank product that is not orthogonal, or ordinary affines with larger steps, can do
    as well or better.
    """
    world = planted.PlantedWorld(0)
    start = planted.pretrained(world, 500)
    before = planted.measured(start, world)
    arms = ("control", "projector")
    control, projector = (
        planted.measured(planted.tuned(copy.deepcopy(start), world, planted.ARMS[arm], 250), world) for arm in arms
    )
    assert projector["mse"] < control["mse"] < before["mse"]
    for name in planted.LAYERS:
        assert projector["rank"][name] == 5
        assert projector["outside"][name] < control["outside"][name]
    check_starts(planted, world, start, before["mse"])


def check_starts(planted: Any, world: Any, start: Any, error: float) -> None:
    """The nearest projector keeps what was learnt, a random one loses some of it; a long tuning can make up for that."""
    starts = {}
    for arm in ("projector", "projector_random"):
        projected = copy.deepcopy(start)
        planted.ARMS[arm].prepare(projected)
        starts[arm] = planted.test_error(projected, world)
    assert starts["projector"] < 1.1 * error
    assert starts["projector_random"] > 1.1 * starts["projector"]
