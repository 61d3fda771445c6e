# SPDX-License-Identifier: Apache-2.0
"""Processor time of contenders in turn: on a busy machine it says what an idle one would take."""

import time
from collections.abc import Callable, Mapping


def in_turn(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds per call, a call of every contender in each round.

    Args:
        contenders (`Mapping[str, Callable]`): what to time, by name.
        rounds (`int`): of timing.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return seconds


def fastest(call: Callable[[], object], rounds: int = 3, least: float = 0.02) -> float:
    """Processor seconds of one call, the fastest of several timings, after one that does not count.

    Args:
        call (`Callable`): what to time.
        rounds (`int`, *optional*, defaults to 3): timings.
        least (`float`, *optional*, defaults to 0.02): seconds of a timing, for the clock to resolve it.
    """
    call()
    return min(_per_call(call, least) for _ in range(rounds))


def _per_call(call: Callable[[], object], least: float) -> float:
    count = 1
    while True:
        start = time.process_time()
        for _ in range(count):
            call()
        spent = time.process_time() - start
        if spent >= least:
            return spent / count
        count *= 4
