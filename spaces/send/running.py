# SPDX-License-Identifier: Apache-2.0
"""Plain training and an arm beside it, epoch by epoch, from the same model with the same rows in the same order."""

import copy
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from names import ARMS, SITES
from random_numbers import DRAWING
from settings import TrainSettings
from teaching import base_model, encoded, epoch_batches, new_optimizer, train_step

from eigenhub.embedded.fact_answers import VERDICTS, answer_questions, flip_rate, verdicts
from eigenhub.embedded.facts import load_facts
from eigenhub.hub.space import on_gpu
from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.training.send import SenDConfig, SenDRuntime


PLAIN = "off"  # tracks and does nothing else
TRACKED_AT_ONCE, ASKED_AT_ONCE, ANSWER = 64, 256, 2


class Run:
    """
    One run and what it has come to.

    Args:
        settings (`TrainSettings`): of the arm; plain training takes epochs and seed from it.
        mode (`str`): `"off"` or the arm.

    Attributes:
        record (`dict`): plain numbers, complete after every epoch.
    """

    def __init__(self, settings: TrainSettings, mode: str) -> None:
        self.settings = settings
        self.model, self.tokenizer = base_model()
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        rows = encoded("track")
        tracked = [{"input_ids": ids} for ids in rows["input_ids"]]
        with shown_to_visitor("This run cannot be made"):
            self.runtime = SenDRuntime(self.model, _config(settings, mode), tracked, _stacked)
        self.runtime.begin(self.model, None)
        self.optimizer, self.epoch, self.steps = new_optimizer(self.model), 0, 0
        self.test = load_facts()["test"]
        self._verdicts: list[str] | None = None
        self.record: dict[str, Any] = {
            "mode": mode,
            "label": "plain training" if mode == PLAIN else label(settings),
            "settings": settings.to_dict(),
            "questions": len(self.test),
            **{name: [] for name in (*VERDICTS, "flips", "loss", "seconds")},
            "size": self.runtime.index_size,
            "refreshes": [],
            "masked": [],
        }
        self._ask()

    def next_epoch(self) -> None:
        """Train, look at the tracked rows, ask the questions."""
        begun = time.perf_counter()
        self.epoch += 1
        was_masked = bool(self.runtime.dropped)
        # nobody else may draw: dropout takes torch's global generator
        with DRAWING, torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(1_000_003 * self.settings.seed + self.epoch)
            self._train()
            self.runtime.observe(self.model, self.steps)
        if was_masked:
            self.record["masked"].append(self.epoch)
        self.record["refreshes"] = copy.deepcopy(self.runtime.refreshes)
        self._ask()
        self.record["seconds"].append(time.perf_counter() - begun)

    def _train(self) -> None:
        self.model.train()
        losses = []
        for batch in epoch_batches(self.settings.seed, self.epoch):
            losses.append(train_step(self.model, self.optimizer, batch))
            self.steps += 1
            if self.runtime.average is not None:
                self.runtime.average.update()
        self.model.eval()
        self.record["loss"].append(sum(losses) / len(losses))

    def _ask(self) -> None:
        """Every question about the new facts in the forms that were never told."""
        average = self.runtime.average
        with nullcontext() if average is None else average.applied():
            answers = answer_questions(self.model, self.tokenizer, self.test["prompt"][:], ASKED_AT_ONCE, ANSWER)
        found = verdicts(answers, self.test["answer"][:])
        for name in VERDICTS:
            self.record[name].append(found.count(name) / len(found))
        if self._verdicts is not None:
            self.record["flips"].append(flip_rate(self._verdicts, found))
        self._verdicts = found


def label(settings: TrainSettings) -> str:
    """
    Name of an arm in figures and tables.

    Args:
        settings (`TrainSettings`): of the arm.
    """
    name = ARMS[settings.mode].partition(":")[0]
    name = "random indices" if settings.mode == "random" else name
    if not settings.masks:
        return name if settings.mode == "ema" else f"{name}, {SITES[settings.site]}"
    return f"{name}, ρ = {settings.rho:g}, {SITES[settings.site]}"


def _config(settings: TrainSettings, mode: str) -> SenDConfig:
    return SenDConfig(
        mode=mode,
        rho=settings.rho,
        site=settings.site,
        window=settings.window,
        refresh_every=settings.refresh_every,
        mask_in_eval=settings.mask_in_eval,
        track_batch_size=TRACKED_AT_ONCE,
        seed=settings.seed,
    )


def _stacked(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.stack([row["input_ids"] for row in rows])}


@on_gpu
def train_pair(settings: TrainSettings) -> Iterator[dict[str, Any]]:
    """
    Both records before the first epoch and after every epoch.

    Args:
        settings (`TrainSettings`): of the arm.
    """
    with DRAWING:  # the model they begin with may have to be trained, which is seeded
        runs = [Run(settings, mode) for mode in (PLAIN, settings.mode)]
    for epoch in range(settings.epochs + 1):
        for run in runs if epoch else ():
            run.next_epoch()
        plain, arm = (copy.deepcopy(run.record) for run in runs)
        yield {
            "plain": plain,
            "arm": arm,
            "epoch": epoch,
            "epochs": settings.epochs,
            "finished": epoch == settings.epochs,
        }
