# SPDX-License-Identifier: Apache-2.0
"""The adapter against lm-polygraph's interface (0.7), and its own formula."""

import sys
import types
from abc import ABC, abstractmethod

import numpy as np
import pytest

from eigenhub.metrics import polygraph_estimator


class Estimator(ABC):
    """The base class of lm-polygraph: what it asks of a subclass."""

    def __init__(self, stats_dependencies, level):
        assert level in ["sequence", "claim", "token"]
        self.level = level
        self.stats_dependencies = stats_dependencies

    @abstractmethod
    def __str__(self): ...

    @abstractmethod
    def __call__(self, stats): ...


@pytest.fixture
def lm_polygraph(monkeypatch):
    module = types.ModuleType("lm_polygraph.estimators.estimator")
    module.Estimator = Estimator
    for name in ("lm_polygraph", "lm_polygraph.estimators"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_it_is_an_estimator_and_equals_theirs(lm_polygraph):
    rng = np.random.default_rng(0)
    stats = {"sample_embeddings": [[rng.normal(size=12).astype(np.float16) for _ in range(k)] for k in (5, 7)]}
    estimator = polygraph_estimator("inside_paper")
    assert isinstance(estimator, Estimator)
    assert (estimator.level, estimator.stats_dependencies) == ("sequence", ["sample_embeddings"])
    found = estimator(stats)
    centring = np.eye(12) - np.ones((12, 12)) / 12
    for value, states in zip(found, stats["sample_embeddings"], strict=True):
        rows = np.array(states, dtype=np.float64)
        eigenvalues = np.linalg.eigvalsh(rows @ centring @ rows.T + 1e-3 * np.eye(len(rows)))
        assert value == pytest.approx(np.log(eigenvalues).mean(), rel=1e-9)
    assert found.shape == (2,)


def test_names_tell_settings_apart(lm_polygraph):
    names = {str(polygraph_estimator(c, a, b)) for c, a, b in (("inside", None, "e"), ("send", None, "e"), ("inside", 0.1, "e"), ("inside", None, "10"))}  # fmt: skip
    assert len(names) == 4 and str(polygraph_estimator()) == "EigenhubEigenScore_inside_alpha0.001_basee"


def test_without_it_there_is_a_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_polygraph", None)
    with pytest.raises(ImportError, match="pip install lm-polygraph"):
        polygraph_estimator()
    with pytest.raises(ValueError, match="`convention` must be one of"):
        polygraph_estimator("cov")
