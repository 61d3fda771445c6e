# SPDX-License-Identifier: Apache-2.0
"""What the page and programs learn of a running race, a few times a second."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
from contenders import Settings
from racing import Runner, race

from eigenhub.hub.space import on_gpu


MIN_STEPS, MAX_STEPS = 10, 300
SECONDS_BETWEEN = 0.5


@on_gpu
def report(
    names: Sequence[str],
    bases: Sequence[str],
    rank: int,
    gap: int,
    left_over: str,
    steps: int,
    rates: Mapping[str, float | None],
    aux_rate: float | None,
    seed: int = 0,
) -> Iterator[list[dict[str, Any]]]:
    """Records of all runs after the first step, about twice a second, and at the end with held-out losses; see `Settings`."""
    if not MIN_STEPS <= steps <= MAX_STEPS:
        raise gr.Error(f"A race has {MIN_STEPS} to {MAX_STEPS} steps, not {steps}.")
    if aux_rate is None or None in rates.values():
        raise gr.Error("Give every learning rate a value.")
    settings = Settings(names, bases, int(rank), int(gap), left_over, rates, float(aux_rate))
    due = 0.0
    for runners in race(settings, int(steps), int(seed)):
        finished = runners[0].held_out is not None
        if finished or time.monotonic() >= due:
            yield [record(runner) for runner in runners]
            due = time.monotonic() + SECONDS_BETWEEN


def record(runner: Runner) -> dict[str, Any]:
    """One run so far, in plain numbers."""
    return {
        "name": runner.contender.label,
        "lr": runner.contender.rate,
        "losses": list(runner.losses),
        "smoothed": runner.smoothed,
        "held_out_loss": runner.held_out,
        "state_bytes": runner.state_bytes,
        "optimizer_milliseconds": 1000 * runner.optimizer_seconds / len(runner.losses),
        "diverged": runner.diverged,
    }
