# SPDX-License-Identifier: Apache-2.0
"""Means of what clients tell about themselves."""

from collections.abc import Mapping


class WeightedMean:
    """Running means of figures by name; one that not every client gives is averaged over those that do."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, figures: Mapping[str, float], weight: float) -> None:
        """Take the figures of one client.

        Args:
            figures (`Mapping[str, float]`): by name.
            weight (`float`): its weight.
        """
        for name, value in figures.items():
            total, weights = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (total + weight * value, weights + weight)

    @property
    def values(self) -> dict[str, float]:
        """The means so far."""
        return {name: total / weights for name, (total, weights) in self._sums.items() if weights}
