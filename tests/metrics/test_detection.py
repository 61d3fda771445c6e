# SPDX-License-Identifier: Apache-2.0
"""AUROC and rejection ratio against scikit-learn, a plain loop and closed forms."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from eigenhub.metrics import auroc, prediction_rejection_ratio
from tests.common.metric_tester import MetricTester


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


BAD_PAIRS = {
    "lengths": (numbers(1, 2), numbers(0, 1, 1), "must be as long as the scores"),
    "empty": (numbers(), numbers(), "must be as long as the scores"),
    "matrix": (torch.ones(2, 2), torch.ones(2, 2), "must be as long as the scores"),
    "NaN score": (numbers(1, float("nan")), numbers(0, 1), "`scores` must be finite, entry 1 is not"),
}


class TestAurocContract(MetricTester):
    metric = staticmethod(auroc)
    closed_forms = {
        "perfect": ("plain", (numbers(1, 2, 3), numbers(0, 0, 1)), 1.0),
        "reversed": ("plain", (numbers(1, 2, 3), numbers(1, 0, 0)), 0.0),
        "all the same": ("plain", (torch.ones(5), numbers(1, 0, 0, 1, 0)), 0.5),
        "half a tie": ("plain", (numbers(1, 2, 2), numbers(0, 0, 1)), 0.75),
    }
    invariances = {
        "increasing function": (("plain",), lambda s, w: (s.exp() * 3 - 1, w)),
        "order": (("plain",), lambda s, w: (s.flip(0), w.flip(0))),
    }
    bad_inputs = {
        **{name: ("plain", pair[:2], {}, pair[2]) for name, pair in BAD_PAIRS.items()},
        "labels": ("plain", (numbers(1, 2), numbers(0, 2)), {}, "`wrong` must hold 0 and 1 only"),
        "one kind": ("plain", (numbers(1, 2), numbers(1, 1)), {}, "both kinds, got 2 wrong and 0 right"),
    }
    batched = False

    def inputs(self, generator, batch):
        scores = torch.randint(-8, 8, (60,), generator=generator).double() / 4  # many ties, exact in half precision
        return scores, (torch.rand(60, generator=generator) < 0.3).double()

    def reference(self, item):
        return roc_auc_score(item[1], item[0])


class TestPrrContract(MetricTester):
    metric = staticmethod(prediction_rejection_ratio)
    variants = {"plain": {}, "half": {"max_rejection": 0.5}}
    closed_forms = {
        "oracle": ("plain", (numbers(3, 1, 2), numbers(0.1, 0.9, 0.5)), 1.0),
        "oracle, half": ("half", (numbers(3, 1, 2, 0), numbers(0.1, 0.9, 0.5, 1)), 1.0),
        "chance": ("plain", (torch.ones(4), numbers(0, 1, 1, 0)), 0.0),
        # kept 1, 2, 3 of (0, 0, 1): areas 0, 0, 1/3; oracle 1, 1/2, 1/3; chance 1/3
        "worst": ("plain", (numbers(1, 2, 3), numbers(0, 0, 1)), (1 / 9 - 1 / 3) / (11 / 18 - 1 / 3)),
    }
    invariances = {
        "increasing function": (tuple(variants), lambda s, q: (s.exp(), q)),
        "linear quality": (tuple(variants), lambda s, q: (s, 4 * q - 1)),
        "order": (tuple(variants), lambda s, q: (s.flip(0), q.flip(0))),
    }
    bad_inputs = {
        **{name: ("plain", pair[:2], {}, pair[2]) for name, pair in BAD_PAIRS.items()},
        "infinite quality": ("plain", (numbers(1, 2), numbers(0, float("inf"))), {}, "`quality` must be finite"),
        "equal quality": ("plain", (numbers(1, 2), numbers(1, 1)), {}, "`quality` must differ between answers"),
        "no rejection": ("plain", (numbers(1, 2), numbers(0, 1)), {"max_rejection": 0.4}, "`max_rejection` must"),
        "too much": ("plain", (numbers(1, 2), numbers(0, 1)), {"max_rejection": 1.5}, "`max_rejection` must"),
    }
    batched = False

    def inputs(self, generator, batch):
        scores = torch.randperm(60, generator=generator).double() / 16  # no ties, exact in half precision
        return scores, torch.randint(0, 5, (60,), generator=generator).double()

    def reference(self, item, max_rejection=1.0):
        """As lm-polygraph computes it, for scores without ties."""
        uncertainty, quality = item
        rejected = int(max_rejection * len(quality))

        def area(scores):
            kept = np.cumsum(quality[np.argsort(scores, kind="stable")]) / np.arange(1, len(quality) + 1)
            return kept[-rejected:].mean()

        chance = quality.mean()
        return (area(uncertainty) - chance) / (area(-quality) - chance)


def test_ties_count_with_their_mean():
    """The mean over all orders of the tied answers, by trying them."""
    scores, quality = [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]
    found = [
        prediction_rejection_ratio([0.0 + shift[0], 0.0 + shift[1], 0.0 + shift[2], 1.0], quality)
        for shift in ((0, 0.1, 0.2), (0, 0.2, 0.1), (0.1, 0, 0.2), (0.1, 0.2, 0), (0.2, 0, 0.1), (0.2, 0.1, 0))
    ]
    assert prediction_rejection_ratio(scores, quality) == pytest.approx(np.mean(found))


def test_lists_booleans_and_tensors_are_the_same():
    assert auroc([1, 2, 3], [False, True, True]) == auroc(torch.tensor([1.0, 2, 3]), torch.tensor([0, 1, 1])) == 1.0
