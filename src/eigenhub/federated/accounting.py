# SPDX-License-Identifier: Apache-2.0
"""What a history of private steps costs, and the noise that keeps it within a target: Opacus' accountants, cached.

A history is a list of `(noise_multiplier, sample_rate, steps)`. Its entries may come in any order: composition of Poisson
subsampled Gaussian mechanisms does not depend on it.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from eigenhub.federated.dp_config import ACCOUNTANTS, check_count
from eigenhub.federated.extras import require


#: One run of equal steps: noise multiplier, sample rate, number of steps.
Steps = tuple[float, float, int]

MAX_NOISE_MULTIPLIER = 1e6
MIN_NOISE_MULTIPLIER = 1e-2
# The PRV accountant's grid grows with epsilon, to gigabytes for nearly noiseless steps; no target is near there.
_PRV_LIMIT = 100.0
_CACHED = 16384


def poisson_rate(batch_size: int, num_examples: int) -> float:
    """Probability q = min(1, B / n) of each example to be in a batch of expected size B.

    Args:
        batch_size (`int`): expected size B of a batch.
        num_examples (`int`): examples n of the client.

    Raises:
        ValueError: for counts below 1.
    """
    return min(1.0, check_count("batch_size", batch_size) / check_count("num_examples", num_examples))


def compute_epsilon(history: Iterable[Steps], delta: float, accountant: str = "prv") -> float:
    """Epsilon at `delta` of all steps of a history, an upper bound.

    Args:
        history (`Iterable[tuple[float, float, int]]`): runs of (noise multiplier, sample rate, steps).
        delta (`float`): delta of the guarantee, in (0, 1).
        accountant (`str`, *optional*, defaults to `"prv"`): `"prv"` or `"rdp"`. Above an epsilon of 100, and where its grid
            is numerically not fine enough, `"prv"` gives the looser bound of `"rdp"`.

    Returns:
        `float`: 0 for no steps, infinity for steps without noise.

    Raises:
        ValueError: for values out of range.
        ImportError: without the extra `dp`.

    Example:

    ```python
    >>> from eigenhub.federated.accounting import compute_epsilon
    >>> round(compute_epsilon([(0.613, 0.0114, 500)], delta=1e-5, accountant="rdp"), 1)
    7.1
    ```
    """
    if accountant not in ACCOUNTANTS:
        raise ValueError(f"`accountant` must be one of {', '.join(ACCOUNTANTS)}; got {accountant!r}")
    if not 0 < delta < 1:
        raise ValueError(f"`delta` must lie in (0, 1), got {delta!r}")
    runs: Counter[tuple[float, float]] = Counter()
    for noise_multiplier, sample_rate, steps in history:
        _check_run(noise_multiplier, sample_rate, steps)
        runs[noise_multiplier, sample_rate] += steps
    merged = tuple(sorted((sigma, rate, steps) for (sigma, rate), steps in runs.items() if steps))
    if any(sigma == 0 for sigma, _, _ in merged):
        return math.inf
    return _epsilon(merged, delta, accountant) if merged else 0.0


@lru_cache(maxsize=_CACHED)
def find_noise_multiplier(
    target_epsilon: float, target_delta: float, sample_rate: float, steps: int, accountant: str = "prv"
) -> float:
    """The least noise, up to the tolerance, whose `steps` steps stay within the target.

    Brackets the noise multiplier and interpolates log epsilon over log noise. The tolerance is 0.01 in epsilon as in
    Opacus, or one percent of a target below 1.

    Args:
        target_epsilon (`float`): epsilon not to be exceeded.
        target_delta (`float`): its delta.
        sample_rate (`float`): probability of an example to be in a batch, in (0, 1].
        steps (`int`): all private steps of the client over the whole run.
        accountant (`str`, *optional*, defaults to `"prv"`): `"prv"` or `"rdp"`.

    Raises:
        ValueError: if no noise reaches the target, and for values out of range.

    Example:

    ```python
    >>> from eigenhub.federated.accounting import find_noise_multiplier
    >>> round(find_noise_multiplier(6.0, 1e-5, sample_rate=1 / 88, steps=500, accountant="rdp"), 2)
    0.65
    ```
    """
    if not target_epsilon > 0:
        raise ValueError(f"`target_epsilon` must be positive, got {target_epsilon!r}")
    check_count("steps", steps)

    def cost(sigma: float) -> float:
        return compute_epsilon([(sigma, sample_rate, steps)], target_delta, accountant)

    # the Rényi answer, a little noisier than necessary and cheap, is the best start for the tight accountant
    start = 1.0
    if accountant == "prv":
        try:
            start = find_noise_multiplier(target_epsilon, target_delta, sample_rate, steps, "rdp")
        except ValueError:
            pass  # Rényi orders end at 63, so small targets are out of its reach
    high = start
    while (at_high := cost(high)) > target_epsilon:
        high *= 2
        if high > MAX_NOISE_MULTIPLIER:
            raise ValueError(
                f"`target_epsilon={target_epsilon}` at `target_delta={target_delta}` cannot be reached by the {accountant} "
                f"accountant: {steps} steps of rate {sample_rate:.4g} cost at least {at_high:.3g} under any noise"
            )
    low = high
    while (at_low := cost(low)) <= target_epsilon and low > MIN_NOISE_MULTIPLIER:
        high, at_high = low, at_low
        low *= 0.9 if accountant == "prv" else 0.5
    tolerance = 0.01 * min(1.0, target_epsilon)
    while target_epsilon - at_high > tolerance and high / low > 1 + 1e-6:
        middle = _interpolate(low, at_low, high, at_high, target_epsilon - tolerance / 2)
        at_middle = cost(middle)
        if at_middle <= target_epsilon:
            high, at_high = middle, at_middle
        else:
            low, at_low = middle, at_middle
    return high


def _interpolate(low: float, at_low: float, high: float, at_high: float, wanted: float) -> float:
    """Where log epsilon over log sigma crosses `wanted`, kept off the ends so that the bracket always shrinks."""
    span = math.log(at_low) - math.log(max(at_high, 1e-12))
    share = (math.log(at_low) - math.log(wanted)) / span if math.isfinite(span) and span > 0 else 0.5
    return low * (high / low) ** min(max(share, 0.02), 0.98)


def _check_run(noise_multiplier: float, sample_rate: float, steps: int) -> None:
    """Raise `ValueError` for an entry of a history that means nothing."""
    if not 0 <= noise_multiplier < math.inf:
        raise ValueError(f"`noise_multiplier` must be a number of at least 0, got {noise_multiplier!r}")
    if not 0 < sample_rate <= 1:
        raise ValueError(f"`sample_rate` must lie in (0, 1], got {sample_rate!r}")
    check_count("steps", steps, least=0)


@lru_cache(maxsize=_CACHED)
def _epsilon(history: tuple[Steps, ...], delta: float, accountant: str) -> float:
    """Epsilon of a merged history with noise in every step."""
    renyi = _ask_opacus(history, delta, "rdp")
    if accountant == "rdp" or renyi > _PRV_LIMIT:
        return renyi
    try:
        tight = _ask_opacus(history, delta, "prv")
    except (ArithmeticError, RuntimeError, ValueError):  # its grid is too coarse for these values; both bounds hold
        return renyi
    return tight if math.isfinite(tight) else renyi


def _ask_opacus(history: tuple[Steps, ...], delta: float, mechanism: str) -> float:
    opacus = require("opacus.accountants", "Privacy accounting")
    accountant = opacus.create_accountant(mechanism)
    accountant.history = list(history)
    with warnings.catch_warnings():
        # of log(1 - q) at q = 1, and of a Rényi order at the end of the range: both bounds stay valid
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=delta))
