# SPDX-License-Identifier: Apache-2.0
"""Frechet distance between two sets of features, from running sums in float64."""

from collections.abc import Callable

import torch
from torch import Tensor


class FeatureSums:
    """Count, sum and sum of outer products of feature vectors.

    Args:
        width (`int`): length of a vector.
    """

    def __init__(self, width: int) -> None:
        self.sums = torch.zeros(1 + width + width * width, dtype=torch.float64)
        self.width = width

    @property
    def count(self) -> int:
        """Vectors seen."""
        return int(self.sums[0])

    def add(self, features: Tensor) -> None:
        """Adds some vectors.

        Args:
            features (`Tensor` of shape `(batch, width)`): of images.
        """
        rows = features.detach().double().cpu()
        self.sums += torch.cat([rows.new_tensor([len(rows)]), rows.sum(0), (rows.mT @ rows).flatten()])

    def reduced(self, across: Callable[[Tensor], Tensor]) -> "FeatureSums":
        """The sums over all processes.

        Args:
            across (`Callable`): sums a tensor over the processes.
        """
        found = FeatureSums(self.width)
        found.sums = across(self.sums)
        return found

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance (divided by the count less one)."""
        if self.count < 2:
            raise ValueError(f"a covariance needs 2 images or more, got {self.count}")
        mean = self.sums[1 : 1 + self.width] / self.count
        outer = self.sums[1 + self.width :].view(self.width, self.width)
        return mean, (outer - self.count * torch.outer(mean, mean)) / (self.count - 1)


def frechet_distance(first: FeatureSums, second: FeatureSums) -> float:
    r"""$\lVert \mu_1 - \mu_2 \rVert^2 + \operatorname{tr}(C_1 + C_2 - 2 (C_1 C_2)^{1/2})$, the distance of two Gaussians.

    The trace of the root is that of the symmetric $C_1^{1/2} C_2 C_1^{1/2}$, so that it needs no root of an unsymmetric matrix.

    Args:
        first ([`FeatureSums`]): of real images.
        second ([`FeatureSums`]): of generated ones.
    """
    (mean1, cov1), (mean2, cov2) = first.moments(), second.moments()
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    return ((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross).item()
