# SPDX-License-Identifier: Apache-2.0
"""Timing of contenders against one another in one run."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tqdm import tqdm


def interleaved(
    contenders: dict[str, Callable[[], object]], rounds: int, label: str, limits: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """Seconds per call, one call of every contender per round, in turn: a busy moment hits all of them alike.

    Args:
        contenders (`dict[str, Callable]`): what to time, by name. Each is called once beforehand, untimed.
        rounds (`int`): number of timed rounds.
        label (`str`): text of the progress bar.
        limits (`Mapping[str, int]`, *optional*): smaller numbers of rounds for contenders that take long.
    """
    for call in contenders.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in tqdm(range(rounds), desc=label):
        for name, call in contenders.items():
            if number >= (limits or {}).get(name, rounds):
                continue
            _synchronize()
            start = time.perf_counter()
            call()
            _synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def halves(seconds: dict[str, list[float]], name: str, peer: str) -> dict[str, list[float]]:
    """The spread of a ratio of fastest calls: the same ratio in either half of the rounds, every second one."""
    one, other = seconds[name], seconds[peer]
    if min(len(one), len(other)) < 2:
        return {}
    found = [min(one[half::2]) / min(other[half::2]) for half in (0, 1)]
    return {"range": [min(found), max(found)]}


def ratio(seconds: dict[str, list[float]], name: str, peer: str) -> dict[str, Any]:
    """Time of `name` over time of `peer`: the median of the ratios round by round, with their quartiles."""
    ratios = [a / b for a, b in zip(seconds[name], seconds[peer], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return {"ratio": middle, "quartiles": [low, high], "rounds": len(ratios)}
