# SPDX-License-Identifier: Apache-2.0
"""Gram log-determinants, eigenvalues and effective rank against numpy in float64."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from eigenhub.linalg.spectrum import effective_rank, gram_eigenvalues, gram_log_determinant
from tests.common.metric_tester import MetricTester, seeded


def gaussian(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


@pytest.mark.parametrize(("n", "d"), [(1, 1), (3, 50), (50, 3), (20, 21), (21, 20), (1, 9), (9, 1)])
@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 2.0])
def test_log_determinant_on_both_sides(n, d, alpha):
    x = gaussian(n, d)
    dense = alpha * np.eye(n) + x.numpy() @ x.numpy().T / 3
    assert gram_log_determinant(x, alpha, 3).item() == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-9)
    sylvester = (n - d) * math.log(alpha) + gram_log_determinant(x.mT, alpha, 3)
    assert gram_log_determinant(x, alpha, 3).item() == pytest.approx(sylvester.item(), rel=1e-9)
    assert_close(
        gram_eigenvalues(x, 3), torch.linalg.eigvalsh(x @ x.mT / 3).flip(0).clamp_min(0), rtol=1e-8, atol=1e-10
    )


def test_scales_of_a_batch():
    x, scale = gaussian(2, 3, 5, 8), torch.arange(1.0, 7).view(2, 3)
    for function in (lambda x, c: gram_log_determinant(x, 0.1, c), gram_eigenvalues):
        found = function(x, scale)
        for i in range(2):
            for j in range(3):
                assert_close(found[i, j], function(x[i, j], scale[i, j].item()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1e2, 1e5, 1e8])
def test_one_huge_direction_leaves_the_small_eigenvalues_their_digits(size):
    """Singular values of 1 beside one of 1e8: eps times its square is 2, more than they are."""
    x = torch.linalg.qr(gaussian(40, 6)).Q.mT  # six orthonormal rows
    mix = torch.linalg.qr(gaussian(6, 6, seed=1)).Q
    values = torch.tensor([size, 1, 1, 0.1, 0.1, 0.1], dtype=torch.float64)
    rows = mix @ (values[:, None] * x)
    expected = (values.square() + 1e-3).log().sum()
    assert gram_log_determinant(rows, 1e-3).item() == pytest.approx(expected.item(), abs=1e-6)
    assert_close(gram_eigenvalues(rows), values.square(), rtol=1e-6, atol=0)


def test_refusals():
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="`alpha` must be positive"):
            gram_log_determinant(torch.ones(2, 3), alpha)
    with pytest.raises(ValueError, match=r"`rows` must have shape \(..., n, d\)"):
        gram_log_determinant(torch.ones(3), 1.0)


class TestEffectiveRankContract(MetricTester):
    metric = staticmethod(effective_rank)
    variants = {"entropy": {}, "participation": {"kind": "participation"}, "stable": {"kind": "stable"}}
    closed_forms = {
        **{f"equal, {kind}": (kind, (torch.full((4,), 0.3),), 4.0) for kind in variants},
        **{f"one, {kind}": (kind, (torch.tensor([0.0, 7, 0]),), 1.0) for kind in variants},
        **{f"zero, {kind}": (kind, (torch.zeros(3),), 0.0) for kind in variants},
        **{f"huge, {kind}": (kind, (torch.full((4,), 1e300, dtype=torch.float64),), 4.0) for kind in variants},
        "participation": ("participation", (torch.tensor([2.0, 1]),), 9 / 5),
        "stable": ("stable", (torch.tensor([2.0, 1]),), 1.5),
        "left out": ("entropy", (torch.tensor([0.3, float("nan"), 0.3]),), 2.0),
    }
    invariances = {
        "scale": (tuple(variants), lambda x: (x * 1e-5,)),
        "order": (tuple(variants), lambda x: (x.flip(-1),)),
        "zeros": (tuple(variants), lambda x: (torch.nn.functional.pad(x, (0, 3))[..., : x.shape[-1] + 3] * 2,)),
    }
    bad_inputs = {
        "kind": ("entropy", (torch.ones(2),), {"kind": "rank"}, "`kind` must be one of entropy,.*'rank'"),
        "negative": ("stable", (torch.tensor([1.0, -2]),), {}, "`eigenvalues` must not be negative, got -2"),
    }

    def inputs(self, generator, batch):
        return (torch.rand(*batch, 7, generator=generator, dtype=torch.float64),)

    def reference(self, item, kind="entropy"):
        (x,) = item
        p = x / x.sum()
        return {"entropy": np.exp(-(p * np.log(p)).sum()), "participation": 1 / (p**2).sum(), "stable": 1 / p.max()}[
            kind
        ]

    def test_invariances(self, invariance):
        if invariance == "zeros":  # changes the shape
            x = self.inputs(seeded(), (3,))[0]
            for kind in self.variants:
                assert_close(self.value((torch.nn.functional.pad(x, (0, 3)),), kind), self.value((x,), kind))
            return
        super().test_invariances(invariance)
