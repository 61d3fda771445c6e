# SPDX-License-Identifier: Apache-2.0
"""Where the line between certain and uncertain is drawn, and how good a score is at drawing it."""

import math
from collections.abc import Sequence

from names import DETECTORS, QUANTILE, YOUDEN

from eigenhub.metrics import auroc


def youden_threshold(scores: Sequence[float], wrong: Sequence[bool]) -> tuple[float, float]:
    """
    The threshold above which answers are taken for wrong, at the largest share of wrong ones caught less right ones lost.

    Args:
        scores (`Sequence[float]`): higher is less certain.
        wrong (`Sequence[bool]`): of both kinds.

    Returns:
        the middle between two scores, of equally good ones the highest; and Youden's J there, 0 where no threshold helps.
    """
    points = roc_points(scores, wrong)
    best = max(range(len(points)), key=lambda place: (round(points[place][1] - points[place][0], 12), -place))
    ordered = sorted(set(scores), reverse=True)  # point k takes the k highest for wrong
    lost, caught = points[best]
    if best == 0:
        return ordered[0], caught - lost
    return (ordered[best - 1] + ordered[best]) / 2, caught - lost


def roc_points(scores: Sequence[float], wrong: Sequence[bool]) -> list[tuple[float, float]]:
    """
    Share of right answers lost and of wrong ones caught, for every threshold from the highest down.

    Args:
        scores (`Sequence[float]`): higher is less certain.
        wrong (`Sequence[bool]`): of both kinds.
    """
    num_wrong, num_right = sum(wrong), len(wrong) - sum(wrong)
    points, caught, lost = [(0.0, 0.0)], 0, 0
    for value in sorted(set(scores), reverse=True):
        here = [is_wrong for score, is_wrong in zip(scores, wrong, strict=True) if score == value]
        caught, lost = caught + sum(here), lost + len(here) - sum(here)
        points.append((lost / num_right, caught / num_wrong))
    return points


def quantile_threshold(scores: Sequence[float], share: float) -> float:
    """
    The score that a share of the prompts does not exceed.

    Args:
        scores (`Sequence[float]`): one or more.
        share (`float`): above 0, at most 1.
    """
    return sorted(scores)[math.ceil(share * len(scores) - 1e-9) - 1]


def choose_threshold(
    by: str, scores: Sequence[float], wrong: Sequence[bool] | None, share: float
) -> tuple[str, float, float | None]:
    """
    By which rule, at which score, and Youden's J if it is that; where that is impossible or of no help it is the quantile.

    Args:
        by (`str`): key of `THRESHOLDS`.
        scores (`Sequence[float]`): EigenScores.
        wrong (`Sequence[bool]`, *optional*): where right answers are known.
        share (`float`): of the quantile.
    """
    if by == YOUDEN and wrong is not None and len(set(wrong)) == 2:
        threshold, j = youden_threshold(scores, wrong)
        if j > 0:
            return YOUDEN, threshold, j
    return QUANTILE, quantile_threshold(scores, share), None


def aurocs(rows: Sequence[dict], wrong: Sequence[bool] | None) -> dict[str, float]:
    """
    AUROC of every score; empty unless there are answers of both kinds.

    Args:
        rows (`Sequence[dict]`): with the scores by name.
        wrong (`Sequence[bool]`, *optional*): of each.
    """
    if wrong is None or len(set(wrong)) < 2:
        return {}
    return {name: auroc([float(row[name]) for row in rows], wrong) for name in DETECTORS}
