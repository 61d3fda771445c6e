# SPDX-License-Identifier: Apache-2.0
"""A race: all contenders take step after step on the same text, each with its own copy of the same untrained model."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from contenders import Contender, Settings, contenders, make_optimizers
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import LlamaForCausalLM

from eigenhub.embedded.byte_llama import byte_batches, byte_blocks, new_byte_llama
from eigenhub.optim import memory_report
from eigenhub.training.schedule import lr_schedule


BATCH, HELD_OUT_ROWS = 4, 128
WARMUP, FLOOR = 0.1, 0.1
SMOOTHED = 5
#: Guessing any of 256 bytes costs 5.55 nats.
CHANCE = math.log(256)


@dataclass
class Runner:
    """
    One contender on the way.

    Args:
        contender (`Contender`): who it is.
        model (`LlamaForCausalLM`): its model.
        optimizers (`list[Optimizer]`): for matrices and everything else.
        schedules (`list[LRScheduler]`): of the optimizers.
        losses (`list[float]`): training loss of each step so far.
        optimizer_seconds (`float`): time spent in the optimizers alone.
        held_out (`float`, *optional*): loss on text that nobody has seen, at the end.
    """

    contender: Contender
    model: LlamaForCausalLM
    optimizers: list[Optimizer]
    schedules: list[LRScheduler]
    losses: list[float] = field(default_factory=list)
    optimizer_seconds: float = 0.0
    held_out: float | None = None

    def step(self, rows: Tensor) -> None:
        loss = self.model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.losses.append(loss.item())  # waits for the device
        begin = time.perf_counter()
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()
        if rows.is_cuda:
            torch.cuda.synchronize()
        self.optimizer_seconds += time.perf_counter() - begin
        self.model.zero_grad()

    @torch.no_grad()
    def finish(self, rows: Tensor) -> None:
        self.held_out = self.model.eval()(input_ids=rows, labels=rows, use_cache=False).loss.item()

    @property
    def smoothed(self) -> list[float]:
        """Mean over the last steps, for every step."""
        means = (self.losses[max(0, end - SMOOTHED) : end] for end in range(1, len(self.losses) + 1))
        return [sum(window) / len(window) for window in means]

    @property
    def state_bytes(self) -> int:
        return sum(memory_report(optimizer).total for optimizer in self.optimizers)

    @property
    def diverged(self) -> bool:
        """Whether it is worse now than guessing."""
        return not self.losses[-1] < CHANCE + 0.5


def race(settings: Settings, steps: int, seed: int = 0) -> Iterator[Sequence[Runner]]:
    """The runners after every step of all of them, and once more at the end with held-out losses."""
    settings.check()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    runners = [make_runner(contender, settings, steps, seed, device) for contender in contenders(settings)]
    for rows in (batch.to(device) for _, batch in zip(range(steps), byte_batches(BATCH, seed), strict=False)):
        with one_thread():
            for runner in runners:
                runner.step(rows)
        yield runners
    held_out = byte_blocks("test")
    rows = held_out[:: len(held_out) // HELD_OUT_ROWS][:HELD_OUT_ROWS].to(device)
    with one_thread():
        for runner in runners:
            runner.finish(rows)
    yield runners


def make_runner(contender: Contender, settings: Settings, steps: int, seed: int, device: str) -> Runner:
    model = new_byte_llama(seed).to(device)
    optimizers = make_optimizers(contender, settings, model)
    schedules: list[LRScheduler] = [lr_schedule(o, "cosine", WARMUP, steps, FLOOR) for o in optimizers]
    return Runner(contender, model.train(), optimizers, schedules)


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices this small wait for a second thread longer than it helps."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
