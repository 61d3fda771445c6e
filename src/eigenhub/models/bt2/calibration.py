# SPDX-License-Identifier: Apache-2.0
"""The factor of old vectors with which results do not dip while an index is backfilled."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eigenhub.models.bt2.backfill_curves import SHARES, BackfillCurve, backfill_states, mixed_rankings
from eigenhub.models.bt2.retrieval_relevance import Relevance


logger = logging.getLogger(__name__)

NO_DIP = 0.95
STEP = 0.05
FEW_QUERIES = 50


@dataclass(frozen=True)
class Calibration:
    """
    A chosen factor and what it does.

    Args:
        old_scale (`float`): the factor.
        curve (`BackfillCurve`): quality over the share backfilled, with the factor.
        without (`BackfillCurve`): the same with the factor 1.
    """

    old_scale: float
    curve: BackfillCurve
    without: BackfillCurve


def calibrate_old_scale(
    queries: ArrayLike,
    relevant: Relevance | Sequence[Sequence[int]],
    old: ArrayLike,
    new: ArrayLike,
    *,
    metric: str = "mrr@10",
    candidates: Sequence[float] | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> Calibration:
    """
    Choose the factor of old vectors by the mean of a metric over the states of a backfill.

    Among the factors whose curve stays above 95 % of its left end, the one with the best mean is taken. Use queries
    that the head was not fitted on: on its own training pairs the factor comes out too low.

    Args:
        queries (`ArrayLike` of shape `(q, n + k)`): held-out unit vectors of the new encoder.
        relevant (`Relevance` or `Sequence[Sequence[int]]`): right answers, as positions in the gallery.
        old (`ArrayLike` of shape `(g, m)`): old vectors of the gallery.
        new (`ArrayLike` of shape `(g, n + k)`): new vectors of the same items.
        metric (`str`, *optional*, defaults to `"mrr@10"`): see
            [`Ranking.values`][eigenhub.models.bt2.retrieval_metrics.Ranking.values].
        candidates (`Sequence[float]`, *optional*): factors to try; by default from 0.8 in steps of 0.05 to the inverse
            of the mean norm of the part of the queries that old vectors are compared with.
        shares (`Sequence[float]`, *optional*, defaults to `(0, 0.2, 0.4, 0.6, 0.8, 1)`): states of the backfill.
        seed (`int`, *optional*, defaults to 0): of the order of the backfill.
    """
    old, new = np.asarray(old, np.float32), np.asarray(new, np.float32)
    relevance = relevant if isinstance(relevant, Relevance) else Relevance.of_lists(relevant, len(new))
    if len(relevance.relevant) < FEW_QUERIES:
        logger.warning("old_scale is chosen on %d queries only; below %d it is uncertain", len(queries), FEW_QUERIES)  # type: ignore[arg-type]
    tried = [1.0, *(candidates if candidates is not None else default_candidates(queries, old.shape[1]))]
    if bad := [factor for factor in tried if not factor > 0]:
        raise ValueError(f"`candidates` must be positive, got {bad[0]}")
    masks = backfill_states(len(new), shares, seed=seed)
    rankings = mixed_rankings(queries, old, new, relevance, masks, tried)
    curves = [
        BackfillCurve(tuple(shares), tuple(state[i].metric(metric) for state in rankings), metric, factor)
        for i, factor in enumerate(tried)
    ]
    smooth = [curve for curve in curves if curve.dip >= NO_DIP]
    if not smooth:
        logger.warning("with every factor results fall below %d %% of the first on the way", round(100 * NO_DIP))
    best = max(smooth or curves, key=lambda curve: curve.auc)
    return Calibration(best.old_scale, best, curves[0])


def default_candidates(queries: ArrayLike, old_dim: int) -> list[float]:
    """Factors from 0.8 to the one that makes the mean query as long against old vectors as against new ones."""
    rows = np.asarray(queries, np.float32)
    part = np.linalg.norm(rows[:, :old_dim], axis=1) / np.linalg.norm(rows, axis=1)
    longest = max(1.3, 1 / float(part.mean()))
    return [round(0.8 + STEP * i, 2) for i in range(int((longest - 0.8) / STEP) + 1)]
