# SPDX-License-Identifier: Apache-2.0
"""EigenScore over a data set, batch by batch, in the style of `evaluate`."""

from typing import Any

import torch
from torch import Tensor

from eigenhub.metrics.conventions import get_convention
from eigenhub.metrics.eigenscore import eigenscore


class EigenScore:
    """Accumulates the EigenScores of many prompts.

    Only scores are kept, never states, so batches may differ in the number of answers and memory does not grow.

    Args:
        options (`Any`): those of [`eigenscore`] except `x`, `mask` and `return_spectrum`, for example
            `convention="sample"`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.metrics import EigenScore
    >>> metric = EigenScore(convention="sample")
    >>> for _ in range(3):
    ...     metric.add_batch(embeddings=torch.randn(4, 10, 64))
    >>> result = metric.compute()
    >>> result["eigenscore"] == sum(result["eigenscores"]) / 12
    True

    ```
    """

    name = "eigenscore"

    def __init__(self, **options: Any) -> None:
        for name in ("x", "mask", "return_spectrum"):
            if name in options:
                raise ValueError(f"`{name}` must not be among the options, got {options[name]!r}")
        get_convention(options.get("convention", "inside"))
        eigenscore(torch.zeros(0, 2, 2), **options)  # refuse bad options here, not after the first batch
        self.options = options
        self._scores: list[Tensor] = []

    def add(self, *, embeddings: Tensor, mask: Tensor | None = None) -> None:
        """Adds one prompt.

        Args:
            embeddings (`Tensor` of shape `(K, d)`): of its answers.
            mask (`Tensor` of shape `(K,)`, *optional*): true for the answers that count.
        """
        if embeddings.ndim != 2:
            raise ValueError(f"`embeddings` must have shape (K, d), got {tuple(embeddings.shape)}")
        self.add_batch(embeddings=embeddings[None], mask=None if mask is None else mask[None])

    def add_batch(self, *, embeddings: Tensor, mask: Tensor | None = None) -> None:
        """Adds a batch of prompts.

        Args:
            embeddings (`Tensor` of shape `(b, K, d)`): of their answers.
            mask (`Tensor` of shape `(b, K)`, *optional*): true for the answers that count.
        """
        if embeddings.ndim != 3:
            raise ValueError(f"`embeddings` must have shape (b, K, d), got {tuple(embeddings.shape)}")
        self._scores.append(eigenscore(embeddings, mask=mask, **self.options).detach().cpu())

    def compute(self, *, embeddings: Tensor | None = None, mask: Tensor | None = None) -> dict[str, Any]:
        """Mean and single scores of all that was added since the last call; begins anew.

        Args:
            embeddings (`Tensor` of shape `(b, K, d)`, *optional*): a last batch.
            mask (`Tensor` of shape `(b, K)`, *optional*): for it.

        Returns:
            `dict`: `"eigenscore"`, the mean, and `"eigenscores"`, in the order of adding.

        Raises:
            ValueError: nothing was added.
        """
        if embeddings is not None:
            self.add_batch(embeddings=embeddings, mask=mask)
        scores = torch.cat(self._scores).tolist() if self._scores else []
        if not scores:
            raise ValueError("nothing was added: call `add_batch(embeddings=...)` before `compute()`")
        self._scores = []
        return {"eigenscore": sum(scores) / len(scores), "eigenscores": scores}
