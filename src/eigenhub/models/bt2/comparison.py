# SPDX-License-Identifier: Apache-2.0
"""Every way of upgrading side by side: on the first day, on the way, and at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from eigenhub.models.bt2.backfill_curves import SHARES, BackfillCurve, backfill_curve, backfill_states
from eigenhub.models.bt2.baselines import UpgradePath
from eigenhub.models.bt2.calibration import calibrate_old_scale
from eigenhub.models.bt2.retrieval_metrics import as_ranking, rank, ranks_of_rows, similarity
from eigenhub.models.bt2.retrieval_relevance import Relevance
from eigenhub.models.bt2.vector_training import TeacherVectors


FUSION, RE_EMBEDDING = "two indexes, rank fusion", "full re-embedding"
RANK_OFFSET = 60  # of reciprocal rank fusion


@dataclass(frozen=True)
class PathResult:
    """
    One way of upgrading in figures.

    Args:
        name (`str`): the way.
        now (`float`): the metric of new queries on the first day.
        after (`float`): the metric when all items are backfilled.
        curve (`BackfillCurve`): from one to the other.
        calibrated (`BackfillCurve`, *optional*): the same with a factor of old vectors that was chosen on other queries.
        extra_encoders (`int`): encoders that have to run for a query beside the new one.
    """

    name: str
    now: float
    after: float
    curve: BackfillCurve
    calibrated: BackfillCurve | None
    extra_encoders: int = 0


def compare_paths(
    paths: Mapping[str, UpgradePath],
    vectors: TeacherVectors,
    relevance: Relevance | None = None,
    metric: str = "mrr@10",
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> list[PathResult]:
    """
    Measure fitted ways on held-out texts, with rank fusion and full re-embedding beside them.

    The factor of old vectors is chosen on every fourth query and judged on the others.

    Args:
        paths (`Mapping[str, UpgradePath]`): fitted ways, see [`fit_paths`][eigenhub.models.bt2.baselines.fit_paths].
        vectors (`TeacherVectors`): vectors of held-out texts, with documents.
        relevance (`Relevance`, *optional*): right answers; by default document i for query i.
        metric (`str`, *optional*, defaults to `"mrr@10"`): see
            [`Ranking.values`][eigenhub.models.bt2.retrieval_metrics.Ranking.values].
        shares (`Sequence[float]`, *optional*, defaults to `(0, 0.2, 0.4, 0.6, 0.8, 1)`): states of the backfill.
        seed (`int`, *optional*, defaults to 0): of the order of the backfill.
    """
    if not vectors.has_pairs:
        raise ValueError("`vectors` must hold documents, or nothing can be found")
    data = {name: rows.numpy() for name, rows in vectors.tensors().items()}
    relevance = relevance or Relevance.of_pairs(len(data["new_documents"]))
    results = [_judge(name, path.gallery(vectors), relevance, metric, shares, seed) for name, path in paths.items()]
    old_old = rank(data["old_queries"], data["old_documents"], relevance).metric(metric)
    new_new = rank(data["new_queries"], data["new_documents"], relevance).metric(metric)
    fused = _fusion_curve(data, relevance, metric, shares, seed)
    waiting = tuple(new_new if share == 1 else old_old for share in shares)
    results.append(PathResult(FUSION, fused.values[0], fused.values[-1], fused, None, extra_encoders=1))
    results.append(
        PathResult(RE_EMBEDDING, old_old, new_new, BackfillCurve(tuple(shares), waiting, metric, 1.0), None)
    )
    return results


def _judge(
    name: str,
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray],
    relevance: Relevance,
    metric: str,
    shares: Sequence[float],
    seed: int,
) -> PathResult:
    queries, old, new = gallery
    chosen_on = np.arange(len(queries)) % 4 == 0
    choice = calibrate_old_scale(
        queries[chosen_on], part_of(relevance, chosen_on), old, new, metric=metric, shares=shares, seed=seed
    )
    others = queries[~chosen_on], old, new, part_of(relevance, ~chosen_on)
    curve = partial(backfill_curve, *others, metric=metric, shares=shares, seed=seed)
    return PathResult(
        name,
        rank(queries, old, relevance).metric(metric),
        rank(queries, new, relevance).metric(metric),
        curve(),
        curve(old_scale=choice.old_scale),
    )


def part_of(relevance: Relevance, rows: np.ndarray) -> Relevance:
    """The relevance of some of the queries, chosen by booleans."""
    where = np.flatnonzero(rows).tolist()
    relevant, own = (tuple(part[row] for row in where) for part in (relevance.relevant, relevance.own))
    return Relevance(relevant, own, relevance.gallery_size)


def _fusion_curve(
    data: Mapping[str, np.ndarray], relevance: Relevance, metric: str, shares: Sequence[float], seed: int
) -> BackfillCurve:
    """Old queries search what is not backfilled, new ones the rest, and the two lists are merged by rank."""
    old = similarity(data["old_queries"], data["old_documents"])
    new = similarity(data["new_queries"], data["new_documents"])
    values = []
    for mask in backfill_states(relevance.gallery_size, shares, seed=seed):
        scores = np.empty_like(new)
        for part, here in ((new, mask), (old, ~mask)):
            order = np.argsort(np.argsort(-part[:, here], axis=1, kind="stable"), axis=1)
            scores[:, here] = 1 / (RANK_OFFSET + 1 + order)
        values.append(as_ranking(ranks_of_rows(scores, relevance.relevant, relevance.own)).metric(metric))
    return BackfillCurve(tuple(shares), tuple(values), metric, 1.0)
