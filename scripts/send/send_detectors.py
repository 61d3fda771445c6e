# SPDX-License-Identifier: Apache-2.0
"""The scores that are compared as detectors of wrong answers, by `train_send.py` and `score.py` alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from eigenhub.metrics import auroc, prediction_rejection_ratio


#: Columns of a score; higher is less certain in all of them.
DETECTORS = ("eigenscore", "length_normalized_entropy", "mean_token_entropy", "one_minus_mode_share", "mean_length")


def means_of(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean of every detector.

    Args:
        scores (`Sequence[Mapping]`): one or more, by column.
    """
    return {name: sum(score[name] for score in scores) / len(scores) for name in DETECTORS}


def auroc_of(scores: Sequence[Mapping[str, Any]], wrong: Sequence[bool]) -> dict[str, float]:
    """AUROC of every detector; empty where all answers are wrong or none.

    Args:
        scores (`Sequence[Mapping]`): by column.
        wrong (`Sequence[bool]`): of each.
    """
    if len(set(wrong)) < 2:
        return {}
    return {name: auroc([score[name] for score in scores], wrong) for name in DETECTORS}


def prr_of(scores: Sequence[Mapping[str, Any]], wrong: Sequence[bool]) -> dict[str, float]:
    """Prediction rejection ratio of every detector; empty where all answers are wrong or none.

    Args:
        scores (`Sequence[Mapping]`): by column.
        wrong (`Sequence[bool]`): of each.
    """
    if len(set(wrong)) < 2:
        return {}
    quality = [float(not entry) for entry in wrong]
    return {name: prediction_rejection_ratio([score[name] for score in scores], quality) for name in DETECTORS}
