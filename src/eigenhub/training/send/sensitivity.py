# SPDX-License-Identifier: Apache-2.0
"""Which embedding indices move most over the last checkpoints."""

import warnings

import torch
from torch import Tensor

from eigenhub.training.send.config import AGGREGATES


def sensitivity(history: Tensor, aggregate: str = "mean_of_scores") -> Tensor:
    r"""Sensitivity of every index (arXiv 2410.15460, definitions 3.2 and 3.3).

    $V_i(n) = \mathrm{Var}_t(e_i^t(n)) \cdot \sum_t |e_i^t(n) - e_i^{t-1}(n)|$ with the population variance, over C
    checkpoints and so C - 1 differences, and $V_i$ the mean over the texts n. The paper's sum has C terms, which would
    need C + 1 checkpoints; the authors' function has C - 1.

    Args:
        history (`Tensor` of shape `(C, N, d)`): sentence embeddings by checkpoint and text; computed in float64.
        aggregate (`str`, *optional*, defaults to `"mean_of_scores"`): or `"score_of_mean"`, V of the mean embedding.

    Returns:
        `Tensor` of shape `(d,)`, float64.
    """
    if aggregate not in AGGREGATES:
        raise ValueError(f"`aggregate` must be one of {', '.join(AGGREGATES)}, got {aggregate!r}")
    if history.ndim != 3 or history.shape[0] < 2 or history.shape[1] < 1:
        raise ValueError(f"`history` must have shape (C, N, d) with C of 2 or more, got {tuple(history.shape)}")
    states = history.double()
    if aggregate == "score_of_mean":
        states = states.mean(1, keepdim=True)
    return (states.var(0, unbiased=False) * states.diff(dim=0).abs().sum(0)).mean(0)


def most_sensitive(scores: Tensor, count: int) -> Tensor:
    """Indices of the largest scores, ascending; among equals the smaller index wins.

    An index whose score is 0 has not moved and is never chosen, so there may be fewer.

    Args:
        scores (`Tensor` of shape `(d,)`): not negative.
        count (`int`): how many.
    """
    order = scores.argsort(descending=True, stable=True)[:count]
    return order[scores[order] > 0].sort().values


class SensitivityTracker:
    """The embeddings of the last C checkpoints, and what they say.

    Args:
        window (`int`, *optional*, defaults to 3): C.
        aggregate (`str`, *optional*, defaults to `"mean_of_scores"`): see [`sensitivity`].

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.training.send import SensitivityTracker
    >>> tracker = SensitivityTracker(window=3)
    >>> for _ in range(3):
    ...     added = tracker.add(torch.randn(40, 16))
    >>> dropped = tracker.select(count=3)
    ```
    """

    def __init__(self, window: int = 3, aggregate: str = "mean_of_scores") -> None:
        if window < 2:
            raise ValueError(f"`window` must be at least 2, got {window}")
        if aggregate not in AGGREGATES:
            raise ValueError(f"`aggregate` must be one of {', '.join(AGGREGATES)}, got {aggregate!r}")
        self.window, self.aggregate = window, aggregate
        self.history: list[Tensor] = []

    @property
    def ready(self) -> bool:
        """Whether C checkpoints have been seen."""
        return len(self.history) == self.window

    def add(self, embeddings: Tensor) -> bool:
        """Takes in a checkpoint; the oldest goes when there are more than C.

        Args:
            embeddings (`Tensor` of shape `(N, d)`): of the same texts in the same order each time.

        Returns:
            `bool`: false, with a warning, for embeddings that are not finite, which are not taken in.
        """
        if embeddings.ndim != 2 or not len(embeddings):
            raise ValueError(f"`embeddings` must have shape (N, d), got {tuple(embeddings.shape)}")
        if self.history and embeddings.shape != self.history[0].shape:
            raise ValueError(
                f"`embeddings` must have shape {tuple(self.history[0].shape)} as before, got {tuple(embeddings.shape)}"
            )
        if not torch.isfinite(embeddings).all():
            warnings.warn(
                "tracked states are NaN or infinite: this checkpoint is left out", RuntimeWarning, stacklevel=2
            )
            return False
        self.history = [*self.history, embeddings.detach().float().cpu()][-self.window :]
        return True

    def scores(self) -> Tensor:
        """Sensitivities `(d,)` over what has been seen."""
        if len(self.history) < 2:
            raise ValueError(f"two checkpoints or more must have been added, got {len(self.history)}")
        return sensitivity(torch.stack(self.history), self.aggregate)

    def select(self, count: int) -> Tensor:
        """The most sensitive indices; see [`most_sensitive`].

        Args:
            count (`int`): how many.
        """
        return most_sensitive(self.scores(), count)
