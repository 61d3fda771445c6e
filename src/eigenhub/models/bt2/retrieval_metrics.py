# SPDX-License-Identifier: Apache-2.0
"""How well one set of embeddings finds another: CMC, mAP, recall, MRR and nDCG."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenhub.models.bt2.retrieval_relevance import Positions, Relevance


CHUNK = 4_000_000  # scores held at a time
#: What is usual where every item has a class, and where questions are answered by documents.
LABEL_METRICS = ("cmc@1", "cmc@5", "map")
TEXT_METRICS = ("recall@1", "recall@10", "mrr@10", "ndcg@10")


@dataclass(frozen=True)
class Ranking:
    """
    Ranks of the right answers, query by query; every metric is a function of them.

    Args:
        ranks (`tuple[NDArray, ...]`): ascending ranks from 1, one array per query that has any right answer.
        skipped (`int`, *optional*, defaults to 0): queries without a right answer, which count in no metric.
    """

    ranks: tuple[NDArray[np.int64], ...]
    skipped: int = 0

    def values(self, name: str) -> NDArray[np.float64]:
        """
        A metric of each query that counts.

        Args:
            name (`str`): `"map"`, or `"cmc@5"`, `"recall@10"`, `"mrr@10"`, `"ndcg@10"` with any cut-off.
        """
        kind, _, cut = name.partition("@")
        if name != "map" and (kind not in AT_K or not cut.isdigit() or int(cut) < 1):
            raise ValueError(f"`name` must be map, or {', '.join(AT_K)} with @k such as cmc@1; got {name!r}")
        value = _average_precision if name == "map" else partial(AT_K[kind], k=int(cut))
        return np.array([value(ranks) for ranks in self.ranks], np.float64)

    def metric(self, name: str) -> float:
        """
        The mean of a metric over the queries.

        Args:
            name (`str`): see [`Ranking.values`].
        """
        if not self.ranks:
            raise ValueError("no query has a right answer in the gallery")
        return float(self.values(name).mean())

    def metrics(self, names: Sequence[str] = LABEL_METRICS + TEXT_METRICS) -> dict[str, float]:
        """
        Several metrics by their names.

        Args:
            names (`Sequence[str]`, *optional*, defaults to `LABEL_METRICS` and `TEXT_METRICS`): see [`Ranking.values`].
        """
        return {name: self.metric(name) for name in names}


def _average_precision(ranks: NDArray) -> float:
    """Mean precision at the right answers, over the whole gallery."""
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def _cmc(ranks: NDArray, k: int) -> float:
    """Whether a right answer is among the first `k`."""
    return float(ranks[0] <= k)


def _recall(ranks: NDArray, k: int) -> float:
    """Share of the right answers among the first `k`."""
    return np.count_nonzero(ranks <= k) / len(ranks)


def _reciprocal_rank(ranks: NDArray, k: int) -> float:
    """Reciprocal rank of the first right answer, zero beyond `k`."""
    return 1 / ranks[0] if ranks[0] <= k else 0.0


def _ndcg(ranks: NDArray, k: int) -> float:
    """Discounted cumulative gain of the first `k`, with gains 0 and 1, over that of the best order."""
    ideal = np.sum(1 / np.log2(np.arange(2, min(k, len(ranks)) + 2)))
    return float(np.sum(1 / np.log2(ranks[ranks <= k] + 1)) / ideal)


AT_K: dict[str, Callable[..., float]] = {"cmc": _cmc, "recall": _recall, "mrr": _reciprocal_rank, "ndcg": _ndcg}


def similarity(queries: ArrayLike, gallery: ArrayLike) -> NDArray[np.float32]:
    r"""
    Inner products over the coordinates that both sides have: $z_{1:m} \cdot o = z \cdot [o, 0]$.

    Args:
        queries (`ArrayLike` of shape `(q, d)`): embeddings of the queries.
        gallery (`ArrayLike` of shape `(g, d')`): embeddings of the gallery; the wider side is truncated.

    Returns:
        Scores of shape `(q, g)`.
    """
    left, right = np.asarray(queries, np.float32), np.asarray(gallery, np.float32)
    width = min(left.shape[1], right.shape[1])
    return left[:, :width] @ right[:, :width].T


def rank(queries: ArrayLike, gallery: ArrayLike, relevance: Relevance) -> Ranking:
    """
    Rank the gallery for each query by inner product, over the coordinates that both have.

    Among equal scores the wrong answers come first. So no order of the gallery flatters a model, and one that scores
    everything alike is worth nothing.

    Args:
        queries (`ArrayLike` of shape `(q, d)`): embeddings of the queries.
        gallery (`ArrayLike` of shape `(g, d')`): embeddings of the gallery, of this or another generation.
        relevance (`Relevance`): the right answers.

    Returns:
        `Ranking`; queries without a right answer are skipped.

    Example:

    ```python
    >>> import numpy as np
    >>> from eigenhub.models.bt2.retrieval_metrics import rank
    >>> from eigenhub.models.bt2.retrieval_relevance import Relevance
    >>> rank(np.eye(3), np.eye(3), Relevance.of_lists([[0], [1], [1]], 3)).metric("mrr@10")
    0.7777777777777777
    ```
    """
    check_sizes(queries, gallery, relevance)
    ranks = [
        found
        for rows, (scores,) in score_chunks(queries, gallery)
        for found in ranks_of_rows(scores, relevance.relevant[rows], relevance.own[rows])
    ]
    return as_ranking(ranks)


def as_ranking(ranks: Sequence[NDArray[np.int64]]) -> Ranking:
    """Ranks of all queries, those without a right answer left out."""
    kept = tuple(found for found in ranks if len(found))
    return Ranking(kept, len(ranks) - len(kept))


def ranks_of_rows(
    scores: NDArray[np.float32], relevant: Sequence[Positions], own: Sequence[Positions]
) -> list[NDArray[np.int64]]:
    """
    Ranks, from 1 and ascending, that each query gives to its right answers.

    Args:
        scores (`NDArray` of shape `(q, g)`): higher is better.
        relevant (`Sequence[NDArray]`): positions of the right answers of each query.
        own (`Sequence[NDArray]`): positions that do not count.
    """
    if all(len(right) == 1 for right in relevant) and not any(len(itself) for itself in own):
        found = np.take_along_axis(scores, np.stack(relevant), 1)  # [q, 1]
        return list(np.count_nonzero(scores >= found, axis=1)[:, None])
    return [_ranks_of_row(*row) for row in zip(scores, relevant, own, strict=True)]


def _ranks_of_row(scores: NDArray[np.float32], relevant: Positions, own: Positions) -> NDArray[np.int64]:
    found = np.sort(scores[relevant])[::-1]
    at_least = len(scores) - np.searchsorted(np.sort(scores), found, side="left")
    own_at_least = (scores[own][None] >= found[:, None]).sum(1)
    right_at_least = np.searchsorted(-found, -found, side="right")
    return np.arange(1, len(found) + 1) + at_least - own_at_least - right_at_least


def score_chunks(queries: ArrayLike, *galleries: ArrayLike) -> Iterator[tuple[slice, tuple[NDArray[np.float32], ...]]]:
    """Rows of queries and their scores against each gallery; only some rows of the tables exist at a time."""
    left = np.asarray(queries, np.float32)
    right = [np.asarray(gallery, np.float32) for gallery in galleries]
    for name, array in (("queries", left), *(("gallery", array) for array in right)):
        if array.ndim != 2 or not np.isfinite(array).all():
            raise ValueError(f"`{name}` must be rows of finite numbers, got shape {array.shape}")
    step = max(1, CHUNK // max(1, sum(len(array) for array in right)))
    for start in range(0, len(left), step):
        rows = slice(start, start + step)
        yield rows, tuple(similarity(left[rows], array) for array in right)


def check_sizes(queries: ArrayLike, gallery: ArrayLike, relevance: Relevance) -> None:
    """Raise unless there is an entry of the relevance for every query and item."""
    for name, rows, wanted in (
        ("queries", queries, len(relevance.relevant)),
        ("gallery", gallery, relevance.gallery_size),
    ):
        if len(rows) != wanted:  # type: ignore[arg-type]  # array-likes have a length
            raise ValueError(f"`{name}` has {len(rows)} rows, the relevance is about {wanted}")  # type: ignore[arg-type]


def update_gain(metric: Mapping[str, float]) -> float | None:
    """
    Share of the possible gain that queries of the new model get from the old gallery at once, (NO - OO) / (NN - OO).

    Args:
        metric (`Mapping[str, float]`): one metric under the keys `"old/old"`, `"new/old"` and `"new/new"`, the last
            one of the independent new model.

    Returns:
        The gain; `None` where the new model is not better than the old one, so that there is nothing to gain.
    """
    possible = metric["new/new"] - metric["old/old"]
    return (metric["new/old"] - metric["old/old"]) / possible if possible > 0 else None
