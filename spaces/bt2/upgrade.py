# SPDX-License-Identifier: Apache-2.0
"""Three indexes over the same items: before, on the way, and after; the one on the way is really backfilled."""

import threading
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from material import Material
from material_images import image_material
from material_text import text_material
from names import HITS, STATES

from eigenhub.models.bt2 import (
    BackfillCurve,
    Calibration,
    CompatibleIndex,
    Relevance,
    backfill_curve,
    calibrate_old_scale,
    rank,
)


@dataclass(frozen=True)
class Hit:
    """One item that was found: its position, its score, and whether its vector is of the new encoder."""

    position: int
    score: float
    is_new: bool


@dataclass
class Upgrade:
    """
    The indexes of one upgrade.

    Args:
        material (`Material`): what is searched.
    """

    material: Material
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        m = self.material
        ids = np.arange(len(m.items))
        self.order = np.random.default_rng(0).permutation(ids)
        self.before, self.mixed, self.after = (
            CompatibleIndex.from_old(m.old_items, ids, m.old, new_identity=m.new) for _ in range(3)
        )
        self.after.backfill(ids, m.items)
        self.mixed.backfill(ids[:1], m.items[:1])  # makes room for the new coordinates

    def search(self, query: Any, share: float, calibrated: bool) -> dict[str, list[Hit]]:
        """
        The best items of each index.

        Args:
            query (`Any`): a text or an image.
            share (`float`): part of the mixed index that is backfilled.
            calibrated (`bool`): whether old vectors are scaled in it.
        """
        old_query, new_query = self.material.encode(query)
        with self.lock:
            self._bring_to(share, self.calibration.old_scale if calibrated else 1.0)
            found = {
                "before": self.before.search(old_query, HITS, identity=self.material.old),
                "mixed": self.mixed.search(new_query, HITS, identity=self.material.new),
                "after": self.after.search(new_query, HITS, identity=self.material.new),
            }
            new = set(self.order[: self._count(share)].tolist())
        is_new = {"before": set(), "mixed": new, "after": set(self.order.tolist())}
        return {
            state: [
                Hit(position, score, position in is_new[state])
                for position, score in zip(found[state].ids[0].tolist(), found[state].scores[0].tolist(), strict=True)
            ]
            for state in STATES
        }

    def _count(self, share: float) -> int:
        return round(share * len(self.order))

    def _bring_to(self, share: float, old_scale: float) -> None:
        """Backfill what is missing and roll back what is too much."""
        if self.mixed.old_scale != old_scale:
            self.mixed.set_old_scale(old_scale)
        new, old = np.split(self.order, [self._count(share)])
        self.mixed.backfill(new, self.material.items[new])
        self.mixed.rollback(old)

    @cached_property
    def calibration(self) -> Calibration:
        """The factor, chosen on every fourth query."""
        m, chosen = self.material, self._chosen
        return calibrate_old_scale(m.queries[chosen], self._part(chosen), m.old_items, m.items, metric=m.metric)

    @cached_property
    def curves(self) -> dict[str, BackfillCurve]:
        """Quality over the share on the other queries, as it is and with the factor."""
        m, rest = self.material, ~self._chosen
        scales = {"plain": 1.0, "calibrated": self.calibration.old_scale}
        shares = np.linspace(0, 1, 11).tolist()
        return {
            name: backfill_curve(
                m.queries[rest],
                m.old_items,
                m.items,
                self._part(rest),
                metric=m.metric,
                old_scale=scale,
                shares=shares,
                order=self.order,
            )
            for name, scale in scales.items()
        }

    @cached_property
    def figures(self) -> dict[str, float]:
        """The metric before, now and after, and that of the new encoder without a head; on the queries of the curves."""
        m, rest = self.material, ~self._chosen
        sides = {
            "before": (m.old_queries, m.old_items),
            "now": (m.queries, m.old_items),
            "after": (m.queries, m.items),
            "independent": m.independent,
        }
        part = self._part(rest)
        return {name: rank(pair[0][rest], pair[1], part).metric(m.metric) for name, pair in sides.items()}

    @cached_property
    def _chosen(self) -> np.ndarray:
        return np.arange(len(self.material.queries)) % 4 == 0

    def _part(self, rows: np.ndarray) -> Relevance:
        relevance, where = self.material.relevance, np.flatnonzero(rows).tolist()
        relevant, own = (tuple(side[row] for row in where) for side in (relevance.relevant, relevance.own))
        return Relevance(relevant, own, relevance.gallery_size)


@lru_cache(maxsize=2)
def text_upgrade(old_name: str, new_name: str) -> Upgrade:
    """The upgrade between two text encoders."""
    return Upgrade(text_material(old_name, new_name))


@lru_cache(maxsize=1)
def image_upgrade() -> Upgrade:
    """The upgrade between the embedded networks."""
    return Upgrade(image_material())
