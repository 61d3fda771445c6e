# SPDX-License-Identifier: Apache-2.0
"""What the owner of an index wants to know before changing the encoder."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eigenhub.models.bt2.backfill_curves import BackfillCurve, backfill_curve
from eigenhub.models.bt2.calibration import calibrate_old_scale
from eigenhub.models.bt2.comparison import PathResult, part_of
from eigenhub.models.bt2.index_vectors import Vectors
from eigenhub.models.bt2.retrieval_metrics import TEXT_METRICS, Ranking, rank, update_gain
from eigenhub.models.bt2.retrieval_relevance import Relevance


MAIN = "recall@10"
BETTER, WORSE, UNCLEAR = "better", "not better", "not clearly better"
INTERVAL = 1.96  # standard errors on either side


@dataclass(frozen=True)
class EncodedTexts:
    """
    Held-out texts by every encoder that has a say; unit vectors.

    Args:
        old_queries (`NDArray` of shape `(q, m)`): by the old encoder.
        old_documents (`NDArray` of shape `(g, m)`): by the old encoder.
        new_queries (`NDArray` of shape `(q, n)`): by the independent new encoder.
        new_documents (`NDArray` of shape `(g, n)`): by the independent new encoder.
        queries (`NDArray` of shape `(q, n + k)`): by the backward-compatible encoder.
        documents (`NDArray` of shape `(g, n + k)`): by the backward-compatible encoder.
    """

    old_queries: Vectors
    old_documents: Vectors
    new_queries: Vectors
    new_documents: Vectors
    queries: Vectors
    documents: Vectors


@dataclass(frozen=True)
class MigrationReport:
    """
    Quality before, on the first day and in the end, and what the way costs.

    Args:
        metrics (`dict[str, dict[str, float]]`): all metrics under `"old/old"`, `"new/old"`, `"new/new"`, and
            `"independent"` for the new encoder without a head.
        verdict (`str`): whether the new encoder is `"better"`, `"not better"` or `"not clearly better"` on these texts.
        difference (`tuple[float, float]`): new minus old in recall@10, and half the width of its 95 % interval.
        gain (`float`, *optional*): share of the possible gain that is there on the first day; without a better new
            encoder there is none.
        old_scale (`float`): factor of old vectors with which results do not dip on the way.
        plain (`BackfillCurve`): recall@10 over the share backfilled, without the factor.
        calibrated (`BackfillCurve`): with it.
        num_vectors (`int`): items of the index.
        hours (`float`): to embed them all anew at the rate measured here; the index is in service all the while.
        money (`float`, *optional*): for these hours.
        bytes_before (`int`): vectors of the index now.
        bytes_after (`int`): vectors of the index afterwards.
        paths (`tuple[PathResult, ...]`, *optional*): other ways of upgrading, on the same texts.
    """

    metrics: dict[str, dict[str, float]]
    verdict: str
    difference: tuple[float, float]
    gain: float | None
    old_scale: float
    plain: BackfillCurve
    calibrated: BackfillCurve
    num_vectors: int
    hours: float
    money: float | None
    bytes_before: int
    bytes_after: int
    paths: tuple[PathResult, ...] = ()

    @property
    def extra_storage(self) -> float:
        """Growth of the vectors as a part of what they take now."""
        return self.bytes_after / self.bytes_before - 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"extra_storage": self.extra_storage}


def migration_report(
    texts: EncodedTexts,
    relevance: Relevance,
    *,
    num_vectors: int,
    documents_per_second: float,
    price_per_hour: float | None = None,
    paths: tuple[PathResult, ...] = (),
    seed: int = 0,
) -> MigrationReport:
    """
    Measure an upgrade on held-out texts.

    Args:
        texts (`EncodedTexts`): the texts by all encoders.
        relevance (`Relevance`): the right answers.
        num_vectors (`int`): items of the index.
        documents_per_second (`float`): rate of the new encoder.
        price_per_hour (`float`, *optional*): of the machine it runs on.
        paths (`tuple[PathResult, ...]`, *optional*, defaults to `()`): other ways, to be shown beside.
        seed (`int`, *optional*, defaults to 0): of the order of the backfill.
    """
    if num_vectors < 1 or not documents_per_second > 0:
        raise ValueError(
            f"`num_vectors` and `documents_per_second` must be positive, got {num_vectors}, {documents_per_second}"
        )
    old_dim = texts.old_documents.shape[1]
    if texts.queries.shape[1] < old_dim:
        raise ValueError(
            f"`texts.queries` must begin with the {old_dim} coordinates of the old encoder, got {texts.queries.shape[1]}"
        )
    rankings = {
        "old/old": rank(texts.old_queries, texts.old_documents, relevance),
        "new/old": rank(texts.queries, texts.old_documents, relevance),
        "new/new": rank(texts.queries, texts.documents, relevance),
        "independent": rank(texts.new_queries, texts.new_documents, relevance),
    }
    main = {name: ranking.metric(MAIN) for name, ranking in rankings.items()}
    verdict, difference = _judge(rankings["independent"], rankings["old/old"])
    plain, calibrated = _curves(texts, relevance, seed)
    hours = num_vectors / documents_per_second / 3600
    return MigrationReport(
        metrics={name: ranking.metrics(TEXT_METRICS) for name, ranking in rankings.items()},
        verdict=verdict,
        difference=difference,
        gain=update_gain(main | {"new/new": main["independent"]}),
        old_scale=calibrated.old_scale,
        plain=plain,
        calibrated=calibrated,
        num_vectors=num_vectors,
        hours=hours,
        money=None if price_per_hour is None else hours * price_per_hour,
        bytes_before=4 * old_dim * num_vectors,
        bytes_after=4 * texts.documents.shape[1] * num_vectors,
        paths=paths,
    )


def _judge(new: Ranking, old: Ranking) -> tuple[str, tuple[float, float]]:
    """Whether the new encoder is better, query by query."""
    gaps = new.values(MAIN) - old.values(MAIN)
    mean = float(gaps.mean())
    margin = INTERVAL * float(gaps.std(ddof=1)) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("inf")
    verdict = WORSE if mean <= 0 else BETTER if mean > margin else UNCLEAR
    return verdict, (mean, float(margin))


def _curves(texts: EncodedTexts, relevance: Relevance, seed: int) -> tuple[BackfillCurve, BackfillCurve]:
    """The factor is chosen on every fourth query and judged on the others."""
    chosen_on = np.arange(len(texts.queries)) % 4 == 0
    gallery = texts.old_documents, texts.documents
    choice = calibrate_old_scale(
        texts.queries[chosen_on], part_of(relevance, chosen_on), *gallery, metric=MAIN, seed=seed
    )
    others = texts.queries[~chosen_on], *gallery, part_of(relevance, ~chosen_on)
    plain, calibrated = (
        backfill_curve(*others, metric=MAIN, old_scale=scale, seed=seed) for scale in (1.0, choice.old_scale)
    )
    return plain, calibrated
