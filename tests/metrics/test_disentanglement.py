# SPDX-License-Identifier: Apache-2.0
"""DCI against closed forms and a plain loop, effects and correlations of linear generators, the factor regressor."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from eigenhub.embedded.shapes import FACTORS, load_shapes
from eigenhub.metrics.disentanglement import attribute_correlation, dci, effect_matrix
from eigenhub.metrics.factor_regressor import FactorRegressor, fit_factor_regressor, r_squared
from tests.common.metric_tester import MetricTester


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


MIXED = matrix([1, 0], [1, 1])
BAD = {
    "negative": ("plain", (matrix([1, -1], [1, 1]),), {}, "`importance` must be finite and not negative"),
    "NaN": ("plain", (matrix([1, float("nan")], [1, 1]),), {}, "`importance` must be finite and not negative"),
    "zeros": ("plain", (torch.zeros(3, 2),), {}, "`importance` must have an entry that is not zero"),
    "one factor": ("plain", (torch.ones(3, 1),), {}, r"`importance` must have shape .*, got \(3, 1\)"),
    "vector": ("plain", (torch.ones(3),), {}, r"`importance` must have shape .*, got \(3,\)"),
}


class DciContract(MetricTester):
    bad_inputs = BAD
    invariances = {
        "scale": (("plain",), lambda r: (7 * r,)),
        "order of the directions": (("plain",), lambda r: (r.flip(-2),)),
        "order of the factors": (("plain",), lambda r: (r.flip(-1),)),
    }

    def inputs(self, generator, batch):
        return (torch.rand(*batch, 5, 3, generator=generator, dtype=torch.float64),)


class TestDisentanglementContract(DciContract):
    metric = staticmethod(lambda importance: dci(importance).disentanglement)
    closed_forms = {
        "one factor each": ("plain", (torch.eye(3).double(),), 1.0),
        "two directions for each factor": ("plain", (torch.eye(3).double().repeat(2, 1),), 1.0),
        "everything everywhere": ("plain", (torch.ones(4, 3).double(),), 0.0),
        "weights": ("plain", (MIXED,), 1 / 3),
        "a dead direction": ("plain", (matrix([1, 0], [0, 1], [0, 0]),), 1.0),
    }

    def reference(self, item):
        (r,) = item
        scores = [1 - sum(-p * math.log(p, len(row)) for p in row / row.sum() if p > 0) for row in r]
        return np.average(scores, weights=r.sum(1))


class TestCompletenessContract(DciContract):
    metric = staticmethod(lambda importance: dci(importance).completeness)
    closed_forms = {
        "one direction each": ("plain", (torch.eye(3).double(),), 1.0),
        "two of four directions": ("plain", (torch.eye(2).double().repeat(2, 1),), 0.5),
        "everything everywhere": ("plain", (torch.ones(4, 3).double(),), 0.0),
        "weights": ("plain", (MIXED,), 1 / 3),
    }

    def reference(self, item):
        return TestDisentanglementContract.reference(self, (item[0].T,))


def test_scores_by_row_and_column():
    found = dci(matrix([1, 0], [1, 1], [0, 0]))
    assert found.by_direction.tolist() == [1.0, 0.0, 0.0]
    assert found.by_factor.tolist() == pytest.approx([1 - math.log(2, 3), 1.0])


# ---------------------------------------------------------------- effects of a linear generator
SAMPLES = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MIX = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
SCALES = torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64)


def moved(k, alpha):
    """Four pixels that are a rotation of four latents; directions of very different length."""
    shift = torch.zeros(4, dtype=torch.float64)
    shift[k] = alpha * SCALES[k]
    return (SAMPLES + shift) @ MIX.mT


def test_effects_of_a_linear_generator_are_the_closed_form():
    found = effect_matrix(moved, 3, lambda images: images @ MIX, change=0.2, limit=1e4, tolerance=1e-4)
    pixels = MIX[:, :3].abs().mean(0)  # mean change per unit of the latent
    assert_close(found.changes, torch.full((3,), 0.2).double(), rtol=1e-4, atol=0)
    assert_close(found.steps, 0.2 / (pixels * SCALES), rtol=1e-4, atol=0)
    expected = torch.zeros(3, 4).double()
    expected[range(3), range(3)] = 0.2 / pixels
    assert_close(found.matrix, expected, rtol=1e-4, atol=1e-9)
    assert dci(found.matrix[:, :3]).disentanglement == pytest.approx(1.0)


def test_the_effect_is_that_of_both_signs():
    """A factor that only one side changes counts half."""
    found = effect_matrix(moved, 1, lambda images: (images @ MIX)[:, :1].clamp(max=SAMPLES[:, :1]), change=0.2)
    whole = effect_matrix(moved, 1, lambda images: (images @ MIX)[:, :1], change=0.2)
    assert_close(found.matrix, whole.matrix / 2, rtol=1e-9, atol=0)


def test_a_dead_direction_stops_at_the_limit():
    with pytest.warns(UserWarning, match="directions 0 do not reach `change` = 0.2 within `limit` = 4"):
        found = effect_matrix(moved, 2, lambda images: images, change=0.2, limit=4.0)
    assert found.steps[0] == 4.0 and found.changes[0] < 0.05
    assert found.changes[1] == pytest.approx(0.2, rel=0.011)


@pytest.mark.parametrize("name", ["count", "change", "limit", "tolerance"])
def test_bad_searches(name):
    with pytest.raises(ValueError, match=f"`{name}` must be positive, got 0"):
        effect_matrix(moved, **({"count": 1, "factors_of": lambda images: images} | {name: 0}))


# ---------------------------------------------------------------- correlation with attributes
STEPS = torch.tensor([-2.0, 0.0, 1.0, 4.0])


def test_correlations_of_linear_and_even_attributes():
    offsets = 100 * SAMPLES[:, :1]  # differences between samples are no correlation
    centred = (STEPS.double() - STEPS.double().mean())[None]
    rises, falls = offsets + 3 * centred, offsets - 0.1 * centred
    scores = torch.stack([rises, falls, offsets.expand(-1, 4)], -1)
    found = attribute_correlation(scores, STEPS)
    assert_close(found, torch.tensor([1.0, -1.0, 0.0]).double(), rtol=1e-9, atol=1e-9)
    even = torch.tensor([-1.0, 0.0, 1.0])
    assert attribute_correlation(even.square().expand(5, 3)[..., None], even).item() == pytest.approx(0, abs=1e-12)


def test_correlations_are_pearson_of_what_is_left_without_the_samples_means():
    scores = torch.randn(2, 6, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = attribute_correlation(scores, STEPS)
    assert found.shape == (2, 3)
    for k in range(2):
        for j in range(3):
            rest = scores[k, :, :, j] - scores[k, :, :, j].mean(1, keepdim=True)
            expected = np.corrcoef(STEPS.repeat(6).numpy(), rest.flatten().numpy())[0, 1]
            assert found[k, j].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "steps", "said"),
    [
        (torch.ones(2, 3, 1), torch.ones(2), r"`steps` must be as many as scores have, got shapes \(2,\)"),
        (torch.ones(3, 1), torch.ones(3), "`steps` must be as many"),
        (torch.ones(2, 3, 1), torch.ones(3), r"`steps` must differ, got \[1.0, 1.0, 1.0\]"),
        (torch.full((2, 2, 1), float("inf")), torch.arange(2), "`scores` and `steps` must be finite"),
    ],
)
def test_bad_correlations(scores, steps, said):
    with pytest.raises(ValueError, match=said):
        attribute_correlation(scores, steps)


# ---------------------------------------------------------------- the regressor
def test_r_squared():
    actual = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    mean = actual.double().mean(0).expand(40, 2)
    assert_close(r_squared(actual, actual), torch.ones(2).double())
    assert_close(r_squared(mean, actual.double()), torch.zeros(2).double(), rtol=0, atol=1e-9)
    half = (actual.double() + mean) / 2
    assert_close(r_squared(half, actual.double()), torch.full((2,), 0.75).double())
    assert r_squared(actual.expand(3, 40, 2), actual.expand(3, 40, 2)).shape == (3, 2)
    with pytest.raises(ValueError, match="`actual` must vary in every factor"):
        r_squared(actual, torch.ones(40, 2))
    with pytest.raises(ValueError, match=r"`predicted` must have the shape of the truth, got \(40, 1\) for \(40, 2\)"):
        r_squared(actual[:, :1], actual)


def test_it_reads_the_factors_of_new_shapes():
    train, test = load_shapes(1500, size=8), load_shapes(200, size=8, seed=1)
    state = torch.random.get_rng_state()
    model = fit_factor_regressor(train["image"], train["factors"][:, :5], steps=150, width=16)
    assert torch.equal(torch.random.get_rng_state(), state)
    found = r_squared(model(test["image"]), test["factors"][:, :5])
    assert found.min() > 0.5, dict(zip(FACTORS, found.tolist(), strict=False))
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert model.features(test["image"]).shape == (200, 64)


def test_regressors_are_seeded_and_checked():
    data = load_shapes(20, size=8)
    one, two, other = (
        fit_factor_regressor(data["image"], data["factors"], steps=2, width=4, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one(data["image"]), two(data["image"]))
    assert not torch.equal(one(data["image"]), other(data["image"]))
    with pytest.raises(ValueError, match="`size` must be a power of two, at least 8, got 12"):
        FactorRegressor(12, 3, 2)
    with pytest.raises(ValueError, match=r"`factors` must be rows for as many images, got shapes \(19, 6\)"):
        fit_factor_regressor(data["image"], data["factors"][:19])
    with pytest.raises(ValueError, match="`steps` must be at least 1, got 0"):
        fit_factor_regressor(data["image"], data["factors"], steps=0)
