# SPDX-License-Identifier: Apache-2.0
"""EES: the paper's formula with its right coefficients, and the released one, which measures something else."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.testing import assert_close

from eigenhub.linalg.spectrum import chebyshev_log_zero
from eigenhub.metrics import ees, eigenscore
from eigenhub.metrics.ees_official import ees_official, official_coefficients
from tests.common.metric_tester import MetricTester, seeded


def gaussian(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def coefficient(m):
    integral, _ = quad(lambda t: math.log(math.cos(t)) * math.cos(m * t), 0, math.pi / 2, limit=400)
    return (1 if m == 0 else 2) / math.pi * integral


COEFFICIENTS = [coefficient(m) for m in range(31)]
PROBES = gaussian(6, 4, seed=7)


class TestEesContract(MetricTester):
    metric = staticmethod(ees)
    variants = {
        "exact": {"exact_trace": True},
        "exact30": {"exact_trace": True, "num_moments": 30},
        "given": {"probes": PROBES},
    }
    closed_forms = {
        # two answers: every standardised feature is +-1, so the spectrum is (1, 0) whatever they say
        "two answers": ("exact", (gaussian(2, 9),), (chebyshev_log_zero(20) + sum(COEFFICIENTS[:21])) / 2),
    }
    invariances = {
        "scale": (tuple(variants), lambda x: (x * 100,)),
        "scale of each feature": (tuple(variants), lambda x: (x * torch.arange(1, x.shape[-1] + 1),)),
        "vector on all rows": (tuple(variants), lambda x: (x + torch.arange(x.shape[-1]),)),
        "order of answers": (("exact", "exact30"), lambda x: (x.flip(-2),)),
        "order of features": (tuple(variants), lambda x: (x.flip(-1),)),
    }
    bad_inputs = {
        "moments": ("exact", (gaussian(3, 4),), {"num_moments": 0}, "`num_moments` must be at least 1, got 0"),
        "number of probes": ("exact", (gaussian(3, 4),), {"num_probes": 0}, "`num_probes` must be at least 1, got 0"),
        "probes": ("given", (gaussian(3, 4),), {}, r"`probes` must have shape \(..., 3, N_z\), got \(6, 4\)"),
        "one answer": ("exact", (gaussian(1, 4),), {}, "at least 2 answers"),
        "NaN": ("exact", (gaussian(3, 4) / 0,), {}, "NaN or infinite in row 0"),
    }
    tolerance = 1e-5  # the largest eigenvalue gets a hair of room

    def inputs(self, generator, batch):
        return (torch.randn(*batch, 6, 15, generator=generator, dtype=torch.float64),)

    def reference(self, item, exact_trace=False, num_moments=20, probes=None):
        e = ((item[0] - item[0].mean(0)) / item[0].std(0)).T  # [d, K]
        e = e / np.linalg.svd(e)[1][0]
        z = np.eye(6) * 6**0.5 if exact_trace else probes.numpy()
        before, current, total = z, e.T @ e @ z, COEFFICIENTS[0] * (z * z).sum()
        for m in range(1, num_moments + 1):
            total += COEFFICIENTS[m] * (z * current).sum()
            before, current = current, 2 * e.T @ e @ current - before
        return total / z.size


def test_masked_answers_have_no_influence():
    x = gaussian(3, 7, 15)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[0, 2] = mask[1, 5:] = False
    found = ees(torch.where(mask[..., None], x, float("nan")), mask=mask, exact_trace=True)
    assert_close(found, torch.stack([ees(x[i][mask[i]], exact_trace=True) for i in range(3)]), rtol=1e-9, atol=1e-9)
    many = ees(torch.where(mask[..., None], x, float("nan")), mask=mask, num_probes=5000, generator=seeded())
    assert_close(many, found, rtol=0, atol=0.06)


def test_more_moments_approach_the_mean_logarithm():
    """Seven eigenvalues between 0.7 and 1, and a zero: standardising over the answers costs one dimension."""
    x = gaussian(8, 400)
    e = (x - x.mean(0)) / x.std(0, unbiased=False)
    values = torch.linalg.eigvalsh(e @ e.mT)[1:]
    errors = []
    for num_moments in (80, 320, 1280):
        exact = ((values / values[-1]).log().sum() + chebyshev_log_zero(num_moments)) / 8
        errors.append((ees(x, num_moments, exact_trace=True) - exact).abs().item())
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3


@pytest.mark.parametrize(("k", "d"), [(12, 40), (40, 12)])
def test_probes_scatter_around_the_exact_trace(k, d):
    x = gaussian(k, d)
    exact = ees(x, exact_trace=True)
    found = ees(x.expand(40, k, d), generator=seeded())  # forty items with probes of their own
    assert (found.mean() - exact).abs() < 3.5 * found.std() / 40**0.5


def test_large_sides_use_lanczos_and_do_not_blow_up(monkeypatch):
    import sys

    x = gaussian(60, 90)
    exact = ees(x, 100, exact_trace=True)
    monkeypatch.setattr(sys.modules[ees.__module__], "EXACT_UP_TO", 10)
    assert ees(x, 100, exact_trace=True, generator=seeded()).item() == pytest.approx(exact.item(), abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_identical_answers_give_the_floor_and_a_warning(dtype):
    x = gaussian(1, 30).to(dtype).expand(1001, 30)
    with pytest.warns(RuntimeWarning, match="floor, -1.8111 for 20 moments"):
        assert ees(x, exact_trace=True).item() == pytest.approx(chebyshev_log_zero(20), abs=1e-9)


def test_one_constant_feature_counts_for_nothing():
    x = gaussian(6, 15)
    more = torch.cat([x, torch.full((6, 1), 0.1, dtype=torch.float64)], dim=1)
    assert_close(ees(more, exact_trace=True), ees(x, exact_trace=True), rtol=1e-9, atol=1e-9)


def test_it_is_a_method_of_eigenscore():
    x = gaussian(3, 6, 15)
    found = eigenscore(x, method="ees", base="10", generator=seeded(), num_moments=30, num_probes=3)
    assert_close(found, ees(x, 30, 3, generator=seeded()) / math.log(10))


# ---------------------------------------------------------------- as released
@pytest.mark.parametrize("m", [1, 2, 5, 20, 100])
def test_official_coefficients_are_the_official_integrals(m):
    integral, _ = quad(lambda t: math.log(math.sin(t)) * math.cos(m * math.sin(t)), 0, math.pi / 2, limit=800)
    assert official_coefficients(100)[m - 1].item() == pytest.approx(2 / math.pi * integral, abs=1e-10)


def test_the_released_form_against_its_own_arithmetic():
    """Line by line as released, with numpy and one probe at a time."""
    x = gaussian(5, 40)
    generator = seeded(3)
    start = torch.rand(5, 1, generator=generator, dtype=torch.float64).numpy()[:, 0]
    z = torch.randn(5, 3, generator=generator, dtype=torch.float64).numpy()
    e = x.numpy().T
    e = (e - e.mean(0, keepdims=True)) / e.std(0, keepdims=True)
    b = start
    for _ in range(500):
        image = e.T @ (e @ b)
        image /= np.linalg.norm(image)
        if np.linalg.norm(image - b) < 1:
            break
        b = image
    e = e / np.linalg.norm(e @ image)
    total = 0.0
    for j in range(3):
        before, current = z[:, j], e.T @ (e @ z[:, j])
        for c in official_coefficients(20).tolist():
            total += c * z[:, j] @ current / 15
            before, current = current, 2 * e.T @ (e @ current) - before
    assert ees_official(x, num_probes=3, generator=seeded(3)).item() == pytest.approx(total, rel=1e-9)


def test_the_released_form_does_not_follow_the_score():
    """Answers that agree more and more: EigenScore and the corrected form fall, the released one does not."""
    noise, common = gaussian(10, 256), gaussian(1, 256, seed=1)
    series = [common * share + noise * (1 - share) for share in (0.0, 0.2, 0.4, 0.6, 0.8)]
    exact = [eigenscore(x, "inside_paper").item() for x in series]
    official = [ees_official(x, exact_trace=True).item() for x in series]
    assert exact == sorted(exact, reverse=True)
    assert np.corrcoef(exact, official)[0, 1] < 0.5


def test_the_released_form_takes_one_item():
    with pytest.raises(ValueError, match=r"`x` must have shape \(K, d\), got \(2, 3, 4\)"):
        ees_official(gaussian(2, 3, 4))
