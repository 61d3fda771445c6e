# SPDX-License-Identifier: Apache-2.0
"""Quality of search while an index is backfilled: part of the gallery in the new space, the rest in the old one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenhub.models.bt2.retrieval_metrics import Ranking, as_ranking, check_sizes, ranks_of_rows, score_chunks
from eigenhub.models.bt2.retrieval_relevance import Relevance


SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class BackfillCurve:
    """
    One metric over the share of the gallery that is backfilled.

    Args:
        shares (`tuple[float, ...]`): shares, from 0 to 1.
        values (`tuple[float, ...]`): the metric at each.
        metric (`str`): its name.
        old_scale (`float`): factor of the old vectors.
    """

    shares: tuple[float, ...]
    values: tuple[float, ...]
    metric: str
    old_scale: float

    @property
    def auc(self) -> float:
        """Mean over the shares: what users see on average while the backfill runs."""
        return float(np.mean(self.values))

    @property
    def dip(self) -> float:
        """Lowest value as a part of the first one; below 1, search gets worse before it gets better."""
        return min(self.values) / self.values[0] if self.values[0] else 1.0


def mixed_rankings(
    queries: ArrayLike,
    old: ArrayLike,
    new: ArrayLike,
    relevance: Relevance,
    backfilled: Sequence[NDArray[np.bool_]],
    old_scales: Sequence[float],
) -> list[list[Ranking]]:
    r"""
    Rank galleries that mix generations: $z \cdot z'$ where backfilled, $\beta\, z_{1:m} \cdot o$ where not.

    Args:
        queries (`ArrayLike` of shape `(q, n + k)`): unit vectors of the new encoder.
        old (`ArrayLike` of shape `(g, m)`): old vectors of the gallery.
        new (`ArrayLike` of shape `(g, n + k)`): new vectors of the gallery.
        relevance (`Relevance`): the right answers.
        backfilled (`Sequence[NDArray]` of shape `(g,)`): which items are backfilled, one mask per state.
        old_scales (`Sequence[float]`): factors $\beta$.

    Returns:
        One list per state, with a ranking for each factor.
    """
    check_sizes(queries, new, relevance)
    check_sizes(queries, old, relevance)
    ranks: list[list[list[NDArray]]] = [[[] for _ in old_scales] for _ in backfilled]
    for rows, (old_scores, new_scores) in score_chunks(queries, old, new):
        for state, mask in zip(ranks, backfilled, strict=True):
            for collected, factor in zip(state, old_scales, strict=True):
                scores = np.where(mask, new_scores, np.float32(factor) * old_scores)
                collected += ranks_of_rows(scores, relevance.relevant[rows], relevance.own[rows])
    return [[as_ranking(found) for found in state] for state in ranks]


def backfill_curve(
    queries: ArrayLike,
    old: ArrayLike,
    new: ArrayLike,
    relevance: Relevance,
    *,
    metric: str = "mrr@10",
    old_scale: float = 1.0,
    shares: Sequence[float] = SHARES,
    order: ArrayLike | None = None,
    seed: int = 0,
) -> BackfillCurve:
    """
    The metric from an old gallery (share 0) to a new one (share 1).

    Args:
        queries (`ArrayLike` of shape `(q, n + k)`): unit vectors of the new encoder.
        old (`ArrayLike` of shape `(g, m)`): old vectors of the gallery.
        new (`ArrayLike` of shape `(g, n + k)`): new vectors of the gallery.
        relevance (`Relevance`): the right answers.
        metric (`str`, *optional*, defaults to `"mrr@10"`): see [`Ranking.values`].
        old_scale (`float`, *optional*, defaults to 1.0): factor of the old vectors.
        shares (`Sequence[float]`, *optional*, defaults to `(0, 0.2, 0.4, 0.6, 0.8, 1)`): shares, equally spaced.
        order (`ArrayLike` of shape `(g,)`, *optional*): positions in the order of the backfill; random if not given.
        seed (`int`, *optional*, defaults to 0): of the random order.
    """
    masks = backfill_states(relevance.gallery_size, shares, order, seed)
    rankings = mixed_rankings(queries, old, new, relevance, masks, [old_scale])
    values = tuple(ranking.metric(metric) for (ranking,) in rankings)
    return BackfillCurve(tuple(shares), values, metric, old_scale)


def backfill_states(
    size: int, shares: Sequence[float], order: ArrayLike | None = None, seed: int = 0
) -> list[NDArray[np.bool_]]:
    """
    Which items are backfilled at each share; who is in at one share is in at all larger ones.

    Args:
        size (`int`): number of items.
        shares (`Sequence[float]`): shares between 0 and 1.
        order (`ArrayLike` of shape `(size,)`, *optional*): positions in the order of the backfill.
        seed (`int`, *optional*, defaults to 0): of a random order.
    """
    if bad := [share for share in shares if not 0 <= share <= 1]:
        raise ValueError(f"`shares` must lie between 0 and 1, got {bad[0]}")
    positions = np.random.default_rng(seed).permutation(size) if order is None else np.asarray(order)
    place = np.empty(size, np.int64)
    place[positions] = np.arange(size)
    return [place < round(share * size) for share in shares]
