# SPDX-License-Identifier: Apache-2.0
"""Single runs of the fact-recall study: the trainer of `train_send.py` in this process, with what the study watches."""

import contextlib
import copy
import functools
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import set_seed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from eigenhub.embedded.fact_answers import count_verdicts, flip_rate, question_ids, verdicts
from eigenhub.embedded.fact_model import pretrained_fact_folder
from eigenhub.embedded.facts import FactRecipe
from eigenhub.metrics.answers import draw_answers, special_tokens
from eigenhub.metrics.hidden_states import evaluating
from eigenhub.training.send import SenDTrainer
from eigenhub.training.setup import make_accelerator
from support.send_facts_script import Task, load_task, make_trainer, parse_args
from support.send_facts_statistics import half_overlaps


SHAPE = (
    "--lr 1e-3 --lr_scheduler constant --per_device_batch_size 64 --eval_batch_size 256 --max_new_tokens 2 "
    "--rho 0.2 --window 3 --refresh_every 3"
).split()


class Answers(TrainerCallback):
    """Asks all held-out questions at the end of each epoch, before SenD chooses anew; in arm `ema` of the average.

    It counts what the script counts, but encodes the questions once and leaves out the loss, which takes half of the time.

    Args:
        trainer (`SenDTrainer`): with the model.
        task ([`Task`]): with the questions.
        masked (`bool`, *optional*, defaults to `False`): with the mask on.
    """

    def __init__(self, trainer: SenDTrainer, task: Task, masked: bool = False) -> None:
        self.trainer, self.tokenizer, self.masked = trainer, task.tokenizer, masked
        self.prompts = [question_ids(task.tokenizer, row["prompt"]) for row in task.questions]
        self.truths = [row["answer"] for row in task.questions]
        self.text = functools.cache(lambda ids: task.tokenizer.decode(ids, skip_special_tokens=True).strip())
        self.rows: list[dict[str, float]] = []
        self._before: list[str] | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        epoch = state.epoch or 0.0
        if epoch != int(epoch):
            return
        average, gate = self.trainer.send.average, self.trainer.send.gate
        with contextlib.nullcontext() if average is None else average.applied():
            if self.masked and gate is not None:
                gate.mask_in_eval = True
            found = verdicts(self._ask(), self.truths)
            if gate is not None:
                gate.mask_in_eval = False
        flips = {} if self._before is None else {"flip": flip_rate(self._before, found)}
        self.rows.append({**count_verdicts(found), **flips})
        self._before = found

    @torch.no_grad()
    def _ask(self) -> list[str]:
        model: Any = self.trainer.model
        special = special_tokens(model, self.tokenizer)
        with evaluating(model):
            found = draw_answers(model, self.prompts, special, 1, do_sample=False, max_new_tokens=2)
        return [self.text(tuple(ids)) for (ids,) in found]


class OpenAtTheEnd(TrainerCallback):
    """Drops nothing in the last T epochs. It comes behind the callback of SenD, so it has the last word.

    Args:
        trainer (`SenDTrainer`): with the mask.
    """

    def __init__(self, trainer: SenDTrainer) -> None:
        self.trainer = trainer

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        runtime = self.trainer.send
        if runtime.checkpoints >= args.num_train_epochs - runtime.config.refresh_every and runtime.gate is not None:
            runtime.gate.set_dropped([])


class Sets(TrainerCallback):
    """The most sensitive indices whenever it is time to choose, and how far two halves of the tracked texts agree.

    Args:
        trainer (`SenDTrainer`): that tracks; arm `off` chooses nothing, and here is what it would have chosen.
    """

    def __init__(self, trainer: SenDTrainer) -> None:
        self.trainer, self.found = trainer, list[dict[str, Any]]()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        runtime = self.trainer.send
        tracker, config = runtime.tracker, runtime.config
        if not tracker.ready or runtime.checkpoints % config.refresh_every:
            return
        count = config.num_dropped(runtime.index_size)
        self.found.append(
            {
                "checkpoint": runtime.checkpoints,
                "size": runtime.index_size,
                "chosen": tracker.select(count).tolist(),
                "halves": half_overlaps(tracker.history, count, config.aggregate),
            }
        )


@functools.lru_cache(maxsize=4)
def loaded(seed: int, track_fraction: float) -> Task:
    """The task of a seed: another world, and a base model with other first weights. To be copied, not trained.

    Args:
        seed (`int`): of both.
        track_fraction (`float`): share of the new rows that is set aside.
    """
    folder = pretrained_fact_folder(FactRecipe(seed=seed), seed=seed)
    where = ["--model", str(folder), "--world_seed", str(seed), "--track_fraction", str(track_fraction)]
    return load_task(parse_args(where))


@contextlib.contextmanager
def prepared(flags: Sequence[str], seed: int, epochs: int) -> Iterator[tuple[SenDTrainer, Task]]:
    """Trainer and task of one run of the script, before it starts; it evaluates nothing.

    Args:
        flags (`Sequence[str]`): of the script, over those of the study.
        seed (`int`): of world, base model and run.
        epochs (`int`): epochs.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        run = ["--seed", str(seed), "--epochs", str(epochs), "--output_dir", folder]
        args = parse_args([*SHAPE, *flags, *run])
        accelerator = make_accelerator(args, project="send")
        kept = loaded(seed, args.track_fraction)
        task = replace(kept, model=copy.deepcopy(kept.model))
        set_seed(seed)
        trainer, evaluations = make_trainer(args, accelerator, task)
        trainer.remove_callback(evaluations)
        yield trainer, task


def fact_run(flags: Sequence[str], seed: int, epochs: int, masked: bool, open_end: bool) -> dict[str, Any]:
    """What one run got wrong, epoch by epoch.

    Args:
        flags (`Sequence[str]`): see [`prepared`].
        seed (`int`): see [`prepared`].
        epochs (`int`): epochs.
        masked (`bool`): evaluate with the mask on too.
        open_end (`bool`): drop nothing in the last T epochs.
    """
    with prepared(flags, seed, epochs) as (trainer, task):
        answers, sets = Answers(trainer, task), Sets(trainer)
        twin = Answers(trainer, task, masked=True) if masked else None
        for callback in (answers, twin, OpenAtTheEnd(trainer) if open_end else None, sets):
            if callback is not None:
                trainer.add_callback(callback)
        trainer.train()
        return {
            "epochs": answers.rows,
            "masked": twin.rows if twin is not None else None,
            "sets": sets.found,
            "refreshes": trainer.send.refreshes,
            "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
            "rows": {"train": len(task.train), "track": len(task.track), "test": len(task.test)},
            "trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the bars, lines and advice of script and libraries; what fails is still raised."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), open("/dev/null", "w") as nowhere:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
    finally:
        logging.set_verbosity(level)
