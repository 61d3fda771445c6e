# SPDX-License-Identifier: Apache-2.0
"""Statistics of the fact-recall study: one run's figures, differences seed by seed, agreement of chosen sets."""

from collections.abc import Sequence
from statistics import mean, pstdev, stdev
from typing import Any

import torch
from torch import Tensor

from eigenhub.training.send import most_sensitive, sensitivity


LAST, SPLITS = 5, 20


def half_overlaps(
    history: Sequence[Tensor], count: int, aggregate: str = "mean_of_scores", splits: int = SPLITS
) -> float:
    """Indices that two random halves of the tracked texts both choose, mean over splits; equal halves share `count`.

    Args:
        history (`Sequence[Tensor]` of shape `(N, d)`): embeddings at the last checkpoints.
        count (`int`): indices that are chosen.
        aggregate (`str`, *optional*, defaults to `"mean_of_scores"`): see [`sensitivity`].
        splits (`int`, *optional*, defaults to 20): random divisions, the same every time.
    """
    states = torch.stack(list(history))  # [C, N, d]
    generator = torch.Generator().manual_seed(0)
    shared = []
    for _ in range(splits):
        order = torch.randperm(states.shape[1], generator=generator)
        middle = len(order) // 2
        sets = [
            set(most_sensitive(sensitivity(states[:, half], aggregate), count).tolist())
            for half in (order[:middle], order[middle:])
        ]
        shared.append(len(sets[0] & sets[1]))
    return mean(shared)


def consecutive_overlaps(sets: Sequence[Sequence[int]]) -> list[int]:
    """Indices that each set shares with the one before it.

    Args:
        sets (`Sequence[Sequence[int]]`): chosen one after the other.
    """
    return [len(set(before) & set(after)) for before, after in zip(sets, sets[1:], strict=False)]


def chance_overlap(count: int, size: int) -> float:
    """Mean number of indices that two random sets share.

    Args:
        count (`int`): indices in each.
        size (`int`): indices there are.
    """
    return count * count / size


def run_figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The figures of one run.

    Args:
        rows (`Sequence[dict]`): its evaluations, one per epoch.

    Returns:
        `final`, `last`, `last_sd`: hallucination share at the end, mean and standard deviation over the last five epochs;
        `flip`: mean share of the questions whose answer became right or ceased to be between two epochs; `refused` and
        `right`: shares of the questions at the end.
    """
    shares = [row["hallucination"] for row in rows]
    flips = [row["flip"] for row in rows if "flip" in row]
    questions = sum(rows[-1][name] for name in ("right", "wrong", "refused"))
    return {
        "final": shares[-1],
        "last": mean(shares[-LAST:]),
        "last_sd": pstdev(shares[-LAST:]),
        "flip": mean(flips) if flips else 0.0,
        "refused": rows[-1]["refused"] / questions,
        "right": rows[-1]["right"] / questions,
    }


def paired(values: Sequence[float], peers: Sequence[float]) -> dict[str, Any]:
    """Differences seed by seed.

    Args:
        values (`Sequence[float]`): of one arm.
        peers (`Sequence[float]`): of the other, in the order of the same seeds.

    Returns:
        `differences`, their `mean` and `sd`, and how many are `above` and `below` zero.
    """
    found = [a - b for a, b in zip(values, peers, strict=True)]
    signs = {"above": sum(entry > 0 for entry in found), "below": sum(entry < 0 for entry in found)}
    return {"differences": found, "mean": mean(found), "sd": spread(found), **signs}


def spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds; 0 for one.

    Args:
        values (`Sequence[float]`): one per seed.
    """
    return stdev(values) if len(values) > 1 else 0.0
