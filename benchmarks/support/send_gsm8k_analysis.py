# SPDX-License-Identifier: Apache-2.0
"""How well scores tell wrong answers from right ones: AUROC, also within strata, PRR, intervals over questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eigenhub.metrics import prediction_rejection_ratio


RESAMPLES = 500


@dataclass(frozen=True)
class Estimate:
    """A figure, seed by seed and over all of them.

    Args:
        seeds (`list[float]`): of each model.
        low (`list[float]`): lower ends of the 95 % intervals, of each model.
        high (`list[float]`): upper ends.
        interval (`tuple[float, float]`): 95 % of the mean over the models.
    """

    seeds: list[float]
    low: list[float]
    high: list[float]
    interval: tuple[float, float]

    @property
    def mean(self) -> float:
        """Over the models. Their scores are not comparable, so that it is figures that are averaged, not scores pooled."""
        return sum(self.seeds) / len(self.seeds)


def resamples(size: int, count: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each question is drawn in each resample; the first line is the data as it is.

    Args:
        size (`int`): questions.
        count (`int`, *optional*, defaults to 500): resamples.
        seed (`int`, *optional*, defaults to 0): of the draws.

    Returns:
        `Tensor` of shape `(1 + count, size)`, float64.
    """
    drawn = torch.randint(size, (count, size), generator=torch.Generator().manual_seed(seed))
    weights = torch.zeros(count, size, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return torch.cat([torch.ones(1, size, dtype=torch.float64), weights])


def weighted_auroc(
    scores: Sequence[float], wrong: Sequence[bool], weights: Tensor, strata: Sequence[int] | None = None
) -> Tensor:
    r"""AUROC under each line of weights; with strata only over pairs of a wrong and a right answer of the same one.

    $\sum_{ij} w_i w_j [s_i = s_j] ([x_i > x_j] + \frac12 [x_i = x_j]) / \sum_{ij} w_i w_j [s_i = s_j]$, i wrong, j right:
    the mean of the AUROC of the strata, each with as much weight as it has pairs.

    Args:
        scores (`Sequence[float]`): higher is less certain.
        wrong (`Sequence[bool]`): of each answer.
        weights (`Tensor` of shape `(b, n)`): from [`resamples`].
        strata (`Sequence[int]`, *optional*): of each answer.

    Returns:
        `Tensor` of shape `(b,)`; NaN where there is no pair.
    """
    x, y = torch.tensor(scores, dtype=torch.float64), torch.tensor(wrong)
    if not torch.isfinite(x).all():
        raise ValueError(f"`scores` must be finite, entry {int((~torch.isfinite(x)).nonzero()[0])} is not")
    first, second = x[y][:, None], x[~y][None]
    wins = (first > second).double() + (first == second).double() / 2
    group = torch.zeros(len(y)) if strata is None else torch.tensor(strata)
    same = (group[y][:, None] == group[~y][None]).double()
    of_wrong, of_right = weights[:, y], weights[:, ~y]
    pairs = (of_wrong @ same * of_right).sum(1)
    return (of_wrong @ (wins * same) * of_right).sum(1) / pairs


def weighted_prr(scores: Sequence[float], wrong: Sequence[bool], weights: Tensor) -> Tensor:
    """Prediction rejection ratio under each line of weights, which are numbers of copies.

    Args:
        scores (`Sequence[float]`): higher is less certain.
        wrong (`Sequence[bool]`): of each answer.
        weights (`Tensor` of shape `(b, n)`): from [`resamples`].

    Returns:
        `Tensor` of shape `(b,)`; NaN where all answers are right or none.
    """
    x, quality = torch.tensor(scores, dtype=torch.float64), (~torch.tensor(wrong)).double()
    found = []
    for copies in weights.long():
        of_kept = quality.repeat_interleave(copies)
        both = 0 < of_kept.sum() < len(of_kept)
        found.append(prediction_rejection_ratio(x.repeat_interleave(copies), of_kept) if both else float("nan"))
    return torch.tensor(found, dtype=torch.float64)


def estimate(figures: Callable[[int], Tensor], count: int) -> Estimate:
    """A figure of several models on the same questions, drawn for all of them together.

    Args:
        figures (`Callable[[int], Tensor]`): of a model, under the data as it is and under each resample.
        count (`int`): models.
    """
    found = torch.stack([figures(number) for number in range(count)])  # [models, 1 + resamples]
    low, high = _interval(found[:, 1:])
    pooled = _interval(found[:, 1:].mean(0, keepdim=True))
    return Estimate(found[:, 0].tolist(), low, high, (pooled[0][0], pooled[1][0]))


def _interval(found: Tensor) -> tuple[list[float], list[float]]:
    """Of each line, without the resamples that have no figure."""
    ends = torch.nanquantile(found, torch.tensor([0.025, 0.975], dtype=found.dtype), dim=1)
    return ends[0].tolist(), ends[1].tolist()


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, ties with their mean rank; 0 where one of both is constant.

    Args:
        first (`Sequence[float]`): values.
        second (`Sequence[float]`): as many.
    """
    ranks = torch.stack([_ranks(first), _ranks(second)])
    centred = ranks - ranks.mean(1, keepdim=True)
    norms = centred.norm(dim=1)
    return float(centred[0] @ centred[1] / (norms[0] * norms[1])) if norms.min() > 0 else 0.0


def _ranks(values: Sequence[float]) -> Tensor:
    x = torch.tensor(values, dtype=torch.float64)
    return (x[:, None] > x).double().sum(1) + (x[:, None] == x).double().sum(1) / 2


def strata_of(values: Sequence[int], bounds: Sequence[int]) -> list[int]:
    """Number of bounds that each value is above.

    Args:
        values (`Sequence[int]`): of each answer.
        bounds (`Sequence[int]`): largest values of all strata but the last, ascending.
    """
    if sorted(set(bounds)) != list(bounds):
        raise ValueError(f"`bounds` must ascend, got {list(bounds)}")
    return [sum(value > bound for bound in bounds) for value in values]
