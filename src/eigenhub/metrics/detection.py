# SPDX-License-Identifier: Apache-2.0
"""How good a score is at telling wrong answers: area under the ROC curve, prediction rejection ratio."""

from collections.abc import Sequence

import torch
from torch import Tensor


Numbers = Tensor | Sequence[float] | Sequence[int] | Sequence[bool]


def auroc(scores: Numbers, wrong: Numbers) -> float:
    """Probability that a wrong answer has a higher score than a right one; ties count one half.

    Args:
        scores (`Tensor` or sequence of length `n`): higher means less certain.
        wrong (`Tensor` or sequence of length `n`): true, or 1, for wrong answers.

    Raises:
        ValueError: lengths that differ, scores that are not finite, labels other than 0 and 1, or of one kind only.

    Example:

    ```python
    >>> from eigenhub.metrics import auroc
    >>> auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75

    ```
    """
    x, y = _pair(scores, wrong, "wrong")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(f"`wrong` must hold 0 and 1 only, got {sorted(set(y.tolist()))[:5]}")
    positives = int(y.sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        raise ValueError(f"`wrong` must hold answers of both kinds, got {positives} wrong and {negatives} right")
    _, group, sizes = torch.unique(x, return_inverse=True, return_counts=True)
    ends = sizes.cumsum(0).double()
    ranks = (ends - (sizes.double() - 1) / 2)[group]  # mean rank of a group of ties
    return float((ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def prediction_rejection_ratio(uncertainty: Numbers, quality: Numbers, max_rejection: float = 1.0) -> float:
    r"""How much of the possible gain an uncertainty brings when the least certain answers are rejected first.

    $\mathrm{PRR} = (A_\text{uncertainty} - A_\text{random}) / (A_\text{oracle} - A_\text{random})$, where A is the mean,
    over the numbers of answers kept, of the mean quality of those kept (Malinin & Gales, 2021). 1 is the oracle, 0 is
    chance. Answers of equal uncertainty count with their mean, so the order of the data has no influence.

    Args:
        uncertainty (`Tensor` or sequence of length `n`): higher is rejected first.
        quality (`Tensor` or sequence of length `n`): higher is better, for example 1 for right and 0 for wrong.
        max_rejection (`float`, *optional*, defaults to 1.0): largest share that is rejected; lm-polygraph reports 0.5 too.

    Raises:
        ValueError: lengths that differ, values that are not finite, all answers of the same quality.
    """
    x, q = _pair(uncertainty, quality, "quality")
    rejected = int(max_rejection * len(q)) if 0 < max_rejection <= 1 else 0
    if rejected < 2:  # with 1, only the mean over all answers is left, which no order changes
        raise ValueError(
            f"`max_rejection` must be at most 1 and take in 2 or more of {len(q)} answers, got {max_rejection}"
        )
    if (q == q[0]).all():
        raise ValueError(f"`quality` must differ between answers, all are {q[0].item():g}")
    chance = float(q.mean())
    best = _rejection_area(-q, q, rejected)
    return (_rejection_area(x, q, rejected) - chance) / (best - chance)


def _rejection_area(uncertainty: Tensor, quality: Tensor, rejected: int) -> float:
    _, group, sizes = torch.unique(uncertainty, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(sizes), dtype=torch.float64, device=quality.device).index_add_(0, group, quality)
    expected = (sums / sizes).repeat_interleave(sizes)  # most certain first, ties by their mean
    kept = torch.arange(1, len(quality) + 1, dtype=torch.float64, device=quality.device)
    return float((expected.cumsum(0) / kept)[-rejected:].mean())


def _pair(scores: Numbers, labels: Numbers, name: str) -> tuple[Tensor, Tensor]:
    x, y = (torch.as_tensor(values).detach().double().cpu() for values in (scores, labels))
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"`{name}` must be as long as the scores, got shapes {tuple(y.shape)} and {tuple(x.shape)}")
    for what, values in (("scores", x), (name, y)):
        if not torch.isfinite(values).all():
            raise ValueError(f"`{what}` must be finite, entry {int((~torch.isfinite(values)).nonzero()[0])} is not")
    return x, y
