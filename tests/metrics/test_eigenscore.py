# SPDX-License-Identifier: Apache-2.0
"""EigenScore: the four conventions, their invariances, precision, estimates and speed."""

import math
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from eigenhub.metrics import EigenScore, eigenscore
from eigenhub.metrics.conventions import CONVENTIONS
from tests.common.metric_tester import MetricTester, seeded


K, D = 6, 17
CENTRED_FEATURES = ("inside", "inside_log10", "inside_paper", "send")


def gaussian(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def dense(x, convention="inside", alpha=None, base="e"):
    """The formulas as printed, with the centring matrix and numpy's eigenvalues."""
    k, d = x.shape
    centring = np.eye(d) - np.ones((d, d)) / d
    if convention == "sample":
        rows = x - x.mean(0)
        gram = rows @ rows.T / (k - 1)
    else:
        gram = x @ centring @ x.T / (d - 1 if convention == "inside" else 1)
    alpha = {"send": 1e-5}.get(convention, 1e-3) if alpha is None else alpha
    values = np.linalg.eigvalsh(gram + alpha * np.eye(k))
    return np.log(values).mean() / (math.log(10) if base == "10" else 1)


def rotated(x):
    turn = torch.linalg.qr(gaussian(x.shape[-1], x.shape[-1], seed=9)).Q
    return (x @ turn,)


ROW = gaussian(1, D, seed=3)
SAME = ROW.expand(K, D).contiguous()
VARIANCE = K * ROW.var().item()


class TestEigenScoreContract(MetricTester):
    metric = staticmethod(eigenscore)
    variants = {
        "inside": {},
        "inside_log10": {"base": "10"},
        "inside_paper": {"convention": "inside_paper"},
        "send": {"convention": "send"},
        "sample": {"convention": "sample"},
        "sample_alpha": {"convention": "sample", "alpha": 0.1},
    }
    closed_forms = {
        "same answers, sample": ("sample", (SAME,), math.log(1e-3)),
        "same answers, inside": ("inside", (SAME,), (math.log(VARIANCE + 1e-3) + (K - 1) * math.log(1e-3)) / K),
        "same answers, scatter": (
            "send", (SAME,), (math.log(VARIANCE * (D - 1) + 1e-5) + (K - 1) * math.log(1e-5)) / K,
        ),
        "zeros": ("inside", (torch.zeros(4, 9),), math.log(1e-3)),
        # rows e_1 - e_2 and e_3 - e_4 are centred and orthogonal, with square norm 2
        "orthogonal": ("inside_paper", (torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]]),), math.log(2 + 1e-3)),
        "log10": ("inside_log10", (torch.zeros(4, 9),), -3.0),
    }  # fmt: skip
    invariances = {
        "order of answers": (tuple(variants), lambda x: (x.flip(-2),)),
        "order of features": (tuple(variants), lambda x: (x.flip(-1),)),
        "constant on each row": (CENTRED_FEATURES, lambda x: (x + torch.arange(K)[:, None],)),
        "vector on all rows": (("sample", "sample_alpha"), lambda x: (x + gaussian(D, seed=5),)),
        "rotation of features": (("sample", "sample_alpha"), rotated),
        "sign": (tuple(variants), lambda x: (-x,)),
    }
    bad_inputs = {
        "convention": ("inside", (gaussian(3, 4),), {"convention": "cov"}, "`convention` must be one of inside,.*'cov'"),
        "method": ("inside", (gaussian(3, 4),), {"method": "svd"}, "`method` must be one of auto, exact.*'svd'"),
        "base": ("inside", (gaussian(3, 4),), {"base": "2"}, "`base` must be 'e' or '10', got '2'"),
        "zero alpha": ("inside", (gaussian(3, 4),), {"alpha": 0.0}, "`alpha` must be positive, got 0.0"),
        "NaN alpha": ("inside", (gaussian(3, 4),), {"alpha": float("nan")}, "`alpha` must be positive, got nan"),
        "alpha of ees": ("inside", (gaussian(3, 4),), {"alpha": 1.0, "method": "ees"}, "`alpha` must not be given"),
        "one answer": ("inside", (gaussian(1, 4),), {}, "at least 2 answers per item.*got 1"),
        "one answer left": (
            "inside", (gaussian(3, 4),), {"mask": torch.tensor([True, False, False])}, "at least 2 answers.*got 1",
        ),
        "no features": ("inside", (gaussian(3, 0),), {}, r"shape \(..., K, d\)"),
        "one feature": ("inside", (gaussian(3, 1),), {}, "at least 2 features for convention 'inside', got 1"),
        "vector": ("inside", (gaussian(4),), {}, r"shape \(..., K, d\), got \(4,\)"),
        "integers": ("inside", (torch.zeros(3, 4, dtype=torch.long),), {}, "floating point tensor, got torch.int64"),
        "shape of mask": ("inside", (gaussian(3, 4),), {"mask": torch.ones(4)}, r"`mask` must have shape \(3,\)"),
        "NaN": ("inside", (torch.tensor([[0.0, 1], [1, float("nan")]]),), {}, "NaN or infinite in row 1"),
        "overflow": (
            "inside", (torch.full((2, 3, 4), 7e4).half(),), {}, r"NaN or infinite in row \(0, 0\)",
        ),
        "spectrum of slq": (
            "inside", (gaussian(3, 4),), {"method": "slq", "return_spectrum": True}, "needs method 'auto' or 'exact'",
        ),
        "probes": ("inside", (gaussian(3, 4),), {"method": "slq", "num_probes": 0}, "`num_probes` must be at least 1"),
        "steps": ("inside", (gaussian(3, 4),), {"method": "slq", "num_steps": 0}, "`num_steps` must be at least 1"),
        "degree": (
            "inside", (gaussian(3, 4),), {"method": "chebyshev", "num_moments": 0}, "`num_moments` must be at least 1",
        ),
    }  # fmt: skip
    masked = True
    accumulator = EigenScore
    accumulator_inputs = ("embeddings",)
    accumulator_result = "eigenscore"

    def inputs(self, generator, batch):
        return (torch.randn(*batch, K, D, generator=generator, dtype=torch.float64),)

    def reference(self, item, **options):
        return dense(*item, **options)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("k", "d"), [(2, 2), (5, 40), (40, 5), (30, 31), (90, 30)])
def test_both_sides_of_the_gram_matrix(convention, k, d):
    x = gaussian(k, d) * 3
    assert eigenscore(x, convention).item() == pytest.approx(dense(x.numpy(), convention), rel=1e-9)
    score, spectrum = eigenscore(x, convention, return_spectrum=True)
    assert_close(score, eigenscore(x, convention), rtol=1e-9, atol=1e-9)
    assert spectrum.shape == (k,) and (spectrum >= 0).all() and (spectrum.diff() <= 0).all()


def test_inside_is_the_covariance_of_torch():
    x = gaussian(7, 50)
    expected = torch.logdet(torch.cov(x) + 1e-3 * torch.eye(7, dtype=torch.float64)) / 7
    assert_close(eigenscore(x), expected, rtol=1e-10, atol=1e-10)


def test_spectrum_of_masked_answers():
    x = gaussian(2, 5, 30)
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]])
    _, spectrum = eigenscore(x, mask=mask, return_spectrum=True)
    assert spectrum[0].isfinite().all() and spectrum[1].isfinite().tolist() == [True] * 3 + [False] * 2
    assert_close(spectrum[1, :3], torch.linalg.eigvalsh(torch.cov(x[1][mask[1]])).flip(0), rtol=1e-9, atol=1e-12)


def test_scale_adds_its_logarithm():
    x = gaussian(5, 40)
    for convention in ("inside", "send"):  # no eigenvalue is 0 there
        moved = eigenscore(10 * x, convention, alpha=1e-12) - eigenscore(x, convention, alpha=1e-12)
        assert moved.item() == pytest.approx(2 * math.log(10), abs=1e-9)


def test_duplicates_lower_the_score():
    x = gaussian(6, 40)
    doubled = torch.cat([x[:5], x[:1]])
    for convention in CONVENTIONS:
        assert eigenscore(doubled, convention) < eigenscore(x, convention)


def test_zeroing_features_never_raises_the_sample_score():
    x = gaussian(8, 30)
    whole = eigenscore(x, "sample")
    for seed in range(30):
        y = x.clone()
        y[:, torch.randperm(30, generator=seeded(seed))[: 1 + seed % 20]] = 0
        assert eigenscore(y, "sample") <= whole + 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("convention", ["inside", "inside_paper", "send"])
def test_massive_activations(convention, dtype):
    """The same answer ten times, one activation of 500: a float32 Gram matrix has a negative eigenvalue here."""
    row = gaussian(4096, seed=1)
    row[7] = 500
    row = row.to(dtype)
    x = row.expand(10, 4096)
    size = (row.double() - row.double().mean()).square().sum().item() * 10
    size /= 4095 if convention == "inside" else 1
    alpha = CONVENTIONS[convention].alpha
    expected = (math.log(size + alpha) + 9 * math.log(alpha)) / 10
    assert eigenscore(x, convention).item() == pytest.approx(expected, abs=1e-6)
    score, spectrum = eigenscore(x, convention, return_spectrum=True)
    assert score.item() == pytest.approx(expected, abs=1e-6) and (spectrum >= 0).all()


def test_gradients_reach_the_embeddings():
    x = gaussian(3, 5).requires_grad_()
    for convention in CONVENTIONS:
        assert torch.autograd.gradcheck(lambda x, c=convention: eigenscore(x, c), (x,))


# ---------------------------------------------------------------- estimates
@pytest.mark.parametrize("options", [{"method": "slq"}, {"method": "chebyshev", "num_moments": 400}])
@pytest.mark.parametrize(("k", "d"), [(60, 80), (90, 40)])
def test_estimates_scatter_around_the_exact_value(options, k, d):
    x = gaussian(k, d)
    exact = eigenscore(x, alpha=0.05, method="exact")
    # twenty items with probes of their own
    found = eigenscore(x.expand(20, k, d), alpha=0.05, generator=seeded(), num_steps=60, **options)
    assert found.std() > 0
    assert (found.mean() - exact).abs() < 3 * found.std() / 20**0.5


@pytest.mark.parametrize("options", [{"method": "slq"}, {"method": "chebyshev", "num_moments": 200}])
@pytest.mark.parametrize("d", [20, 90])
def test_estimates_of_masked_batches(options, d):
    x = gaussian(2, 40, d)
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[1, 25:] = False
    filled = torch.where(mask[..., None], x, float("nan"))
    options = {**options, "alpha": 0.05, "num_probes": 400}
    found = eigenscore(filled, mask=mask, generator=seeded(), **options)
    exact = torch.stack([eigenscore(x[0], alpha=0.05), eigenscore(x[1, :25], alpha=0.05)])
    assert_close(found, exact, rtol=0, atol=0.03)


@pytest.mark.parametrize("method", ["slq", "chebyshev"])
def test_estimates_of_a_matrix_of_zeros(method):
    """Every eigenvalue is alpha: a quadrature with a node there must not divide by what is left of the others."""
    found = eigenscore(torch.zeros(2, 6, 9), method=method, generator=seeded())
    assert_close(found, torch.full((2,), math.log(1e-3), dtype=torch.float64))


@pytest.mark.parametrize("shape", ["clustered", "decaying", "independent"])
def test_slq_at_its_defaults_is_within_a_hundredth(shape):
    """Mean of eight draws, up to its own error, at the sizes of the benchmark divided by four, which have about the same spectra."""
    x = gaussian(500, 512)
    if shape == "clustered":
        x = (x[:20][torch.arange(500) % 20] + 0.3 * x) * torch.arange(1, 513).rsqrt()
    if shape == "decaying":
        u, _, vh = torch.linalg.svd(x, full_matrices=False)
        x = (u * torch.logspace(0, -3, 500, dtype=torch.float64)) @ vh * 511**0.5
    found = eigenscore(x.expand(8, 500, 512), method="slq", generator=seeded())
    assert found.std() < 0.04
    assert (found.mean() - eigenscore(x)).abs() < 0.01 + 3 * found.std() / 8**0.5


def test_a_degree_too_low_is_said():
    x = gaussian(20, 40) * 100
    with pytest.warns(RuntimeWarning, match="degree 100 does not resolve.*needs degree"):
        eigenscore(x, method="chebyshev", generator=seeded())


def test_auto_is_exact_up_to_its_limit(monkeypatch):
    x = gaussian(8, 9)
    assert torch.equal(eigenscore(x), eigenscore(x, method="exact"))
    monkeypatch.setattr(sys.modules[eigenscore.__module__], "EXACT_UP_TO", 7)
    estimate = eigenscore(x, generator=seeded(), num_probes=2)
    assert torch.equal(estimate, eigenscore(x, method="slq", generator=seeded(), num_probes=2))
    assert not torch.equal(estimate, eigenscore(x, method="exact"))
    assert torch.equal(eigenscore(x, return_spectrum=True)[1], eigenscore(x, method="exact", return_spectrum=True)[1])


def test_the_collecting_form_takes_ragged_batches_and_refuses_bad_options_at_once():
    metric = EigenScore(convention="sample")
    metric.add_batch(embeddings=gaussian(2, 4, 9))
    metric.add_batch(embeddings=gaussian(1, 6, 9), mask=torch.tensor([[True] * 5 + [False]]))
    result = metric.compute(embeddings=gaussian(1, 3, 9))
    expected = [*eigenscore(gaussian(2, 4, 9), "sample"), eigenscore(gaussian(1, 6, 9)[0, :5], "sample")]
    assert result["eigenscores"] == pytest.approx([*map(float, expected), float(eigenscore(gaussian(3, 9), "sample"))])
    for options, said in (
        ({"convention": "cov"}, "`convention`"),
        ({"alpha": -1.0}, "`alpha`"),
        ({"method": "svd"}, "`method`"),
        ({"mask": None}, "`mask` must not be among the options"),
    ):
        with pytest.raises(ValueError, match=said):
            EigenScore(**options)
    with pytest.raises(ValueError, match=r"`embeddings` must have shape \(b, K, d\), got \(4, 9\)"):
        metric.add_batch(embeddings=gaussian(4, 9))
    with pytest.raises(ValueError, match=r"`embeddings` must have shape \(K, d\)"):
        metric.add(embeddings=gaussian(2, 4, 9))
