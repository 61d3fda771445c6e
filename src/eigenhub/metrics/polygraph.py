# SPDX-License-Identifier: Apache-2.0
"""EigenScore as an estimator of lm-polygraph, which need not be installed."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch

from eigenhub.metrics.conventions import get_convention
from eigenhub.metrics.eigenscore import eigenscore


def polygraph_estimator(convention: str = "inside", alpha: float | None = None, base: str = "e") -> Any:
    """An estimator for lm-polygraph: `sample_embeddings` of its sampling calculators in, one number per prompt out.

    lm-polygraph's own `EigenScore` is convention `"inside_paper"`; its dense centring matrix is not needed here.

    Args:
        convention (`str`, *optional*, defaults to `"inside"`): see [`eigenscore`].
        alpha (`float`, *optional*): see [`eigenscore`].
        base (`str`, *optional*, defaults to `"e"`): see [`eigenscore`].

    Returns:
        an object of a subclass of `lm_polygraph.estimators.estimator.Estimator`, level `"sequence"`; higher is less
        certain.

    Raises:
        ImportError: lm-polygraph is not installed.
    """
    eigenscore(torch.zeros(0, 2, 2), convention, alpha, base)  # refuses what is out of range
    try:
        parent: Any = import_module("lm_polygraph.estimators.estimator").Estimator
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_polygraph":
            raise  # it is there, but lacks something itself
        raise ImportError("`polygraph_estimator` needs lm-polygraph: pip install lm-polygraph") from error
    regulariser = get_convention(convention).alpha if alpha is None else alpha

    class EigenhubEigenScore(parent):
        def __init__(self) -> None:
            super().__init__(["sample_embeddings"], "sequence")

        def __str__(self) -> str:  # lm-polygraph tells estimators apart by their names
            return f"EigenhubEigenScore_{convention}_alpha{regulariser:g}_base{base}"

        def __call__(self, stats: Mapping[str, Any]) -> np.ndarray:
            return np.array([_score(states, convention, regulariser, base) for states in stats["sample_embeddings"]])

    return EigenhubEigenScore()


def _score(states: Any, convention: str, alpha: float, base: str) -> float:
    rows = torch.from_numpy(np.stack([np.asarray(row) for row in states]))
    return float(eigenscore(rows, convention, alpha, base))
