# SPDX-License-Identifier: Apache-2.0
"""The best learning rates of one optimizer: a search that is the same for all, open at both ends."""

from collections.abc import Callable, Sequence


AUX_RATES = (1e-3, 3e-3, 1e-2)
STEPS_OUT = 2


def tune(loss: Callable[[float, float], float], rates: Sequence[float]) -> tuple[float, float]:
    """The best pair of a rate for the matrices and one for everything else, along one axis after the other.

    First the matrices' rate at the middle auxiliary rate, further out as long as the best is the outermost one (twice at
    most); then the auxiliary rate; where that moved, the neighbours of the matrices' rate once more.

    Args:
        loss (`Callable`): held-out loss of a pair.
        rates (`Sequence[float]`): ascending, in a constant ratio; a single one is not searched.
    """
    aux = AUX_RATES[1]
    tried = {rate: loss(rate, aux) for rate in rates}
    for _ in range(STEPS_OUT if len(rates) > 1 else 0):
        further = _beyond_edge(tried)
        if further is None:
            break
        tried[further] = loss(further, aux)
    rate = best(tried)
    aux = best({other: loss(rate, other) for other in AUX_RATES})
    if aux != AUX_RATES[1]:
        rate = best({near: loss(near, aux) for near in _neighbours(tried, rate)})
    return rate, aux


def best(losses: dict[float, float]) -> float:
    """The key of the smallest loss; a run that diverged to NaN never wins."""
    return min(losses, key=lambda rate: (losses[rate] != losses[rate], losses[rate]))


def _beyond_edge(tried: dict[float, float]) -> float | None:
    rates, rate = sorted(tried), best(tried)
    if rate == rates[0]:
        return float(f"{rate * rates[0] / rates[1]:.3g}")
    if rate == rates[-1]:
        return float(f"{rate * rates[-1] / rates[-2]:.3g}")
    return None


def _neighbours(tried: dict[float, float], rate: float) -> list[float]:
    rates = sorted(tried)
    place = rates.index(rate)
    return rates[max(0, place - 1) : place + 2]
