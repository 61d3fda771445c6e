# SPDX-License-Identifier: Apache-2.0
"""The run of a language-model script: preparation, the loop with held-out losses and checkpoints, and saving.

The scripts bring the model, the optimizer, and what they want to know of it; the rest is the same for all.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from eigenhub.files import write_text
from eigenhub.training.accumulation import check_loss_kwargs, optimizer_step
from eigenhub.training.checkpoint import Checkpoints
from eigenhub.training.language_data import LanguageData
from eigenhub.training.metrics_log import MetricsLog
from eigenhub.training.options import fixed_settings
from eigenhub.training.publish import push_folder
from eigenhub.training.schedule import lr_schedule
from eigenhub.training.setup import is_sharded


Figures = Callable[[Optimizer], dict[str, float]]


@dataclass
class LanguageRun:
    """What the functions below share: the prepared objects of one run.

    Args:
        args (`argparse.Namespace`): the script's arguments.
        accelerator (`Accelerator`): see [`eigenhub.training.setup`].
        data (`LanguageData`): text to learn from and text held out.
        model (`Module`): prepared.
        tokenizer (`PreTrainedTokenizerBase`): saved with the model.
        optimizer (`Optimizer`): prepared.
        scheduler (`LRScheduler`): of its rates.
        max_steps (`int`): optimizer steps of the whole run.
        checkpoints (`Checkpoints`): what has been written, and where the next one goes.
    """

    args: argparse.Namespace
    accelerator: Accelerator
    data: LanguageData
    model: Module
    tokenizer: PreTrainedTokenizerBase
    optimizer: Optimizer
    scheduler: LRScheduler
    max_steps: int
    checkpoints: Checkpoints

    @cached_property
    def unwrapped(self) -> Module:
        """The model without the wrappers of the distributed engines."""
        return self.accelerator.unwrap_model(self.model)


def place_model(model: Module, args: argparse.Namespace, accelerator: Accelerator) -> Module:
    """The model on its device, with gradient checkpointing if asked for; before the optimizer is made.

    Args:
        model (`Module`): a transformers language model.
        args (`argparse.Namespace`): with `gradient_checkpointing`.
        accelerator (`Accelerator`): tells the device.
    """
    check_loss_kwargs(model)
    if not is_sharded(accelerator):
        model.to(accelerator.device)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    return model


def prepare_run(
    args: argparse.Namespace,
    accelerator: Accelerator,
    data: LanguageData,
    model: Module,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: Optimizer,
) -> LanguageRun:
    """Schedule and checkpoints around model, data and optimizer, all prepared for the loop.

    Args:
        args (`argparse.Namespace`): the script's arguments.
        accelerator (`Accelerator`): prepares.
        data (`LanguageData`): not prepared yet.
        model (`Module`): from [`place_model`].
        tokenizer (`PreTrainedTokenizerBase`): of the data.
        optimizer (`Optimizer`): of the model.
    """
    max_steps = num_steps(args, data)
    scheduler = lr_schedule(optimizer, args.lr_scheduler, args.warmup, max_steps, args.min_lr_ratio)
    model, optimizer = data.prepare(model, optimizer)
    # Not prepared but registered: a prepared scheduler advances once per process.
    accelerator.register_for_checkpointing(scheduler)
    settings = {**fixed_settings(args), "held_out": data.held_out_name}
    checkpoints = Checkpoints(accelerator, args.output_dir / "checkpoints", settings, args.keep_checkpoints)
    return LanguageRun(args, accelerator, data, model, tokenizer, optimizer, scheduler, max_steps, checkpoints)


def num_steps(args: argparse.Namespace, data: LanguageData) -> int:
    """Optimizer steps by `--max_steps` or `--epochs`; to be asked before the data is prepared.

    Args:
        args (`argparse.Namespace`): the script's arguments.
        data (`LanguageData`): tells the length of an epoch.
    """
    return args.max_steps or math.ceil(args.epochs * data.steps_per_epoch)


def train_run(
    run: LanguageRun,
    first_step: int,
    title: str,
    rates: Figures,
    watch: Callable[[Optimizer, bool], None] | None = None,
    figures: Figures | None = None,
) -> dict[str, Any]:
    """The loop; returns the last row of the metrics.

    Args:
        run (`LanguageRun`): prepared.
        first_step (`int`): steps done already.
        title (`str`): of the progress bar.
        rates (`Callable`): learning rates of the coming step, by the name they get in the metrics.
        watch (`Callable`, *optional*): called before each step with the optimizer and whether an evaluation follows.
        figures (`Callable`, *optional*): what the optimizer tells of its last step, added to an evaluation.
    """
    args, accelerator = run.args, run.accelerator
    log = MetricsLog(args.output_dir / "metrics.jsonl", first_step, accelerator.is_main_process)
    windows = run.data.windows(first_step)
    clock = Clock(log.last().get("seconds", 0.0))
    bar = tqdm(range(first_step + 1, run.max_steps + 1), title, disable=not accelerator.is_local_main_process)
    run.model.train()
    for step in bar:
        due = step == run.max_steps or (args.eval_every is not None and step % args.eval_every == 0)
        if watch is not None:
            watch(run.optimizer, due)
        current = rates(run.optimizer)
        loss = optimizer_step(accelerator, run.model, run.optimizer, next(windows), True, args.max_grad_norm)
        if not accelerator.optimizer_step_was_skipped:  # fp16: an overflow
            run.scheduler.step()
        if due or step % args.logging_steps == 0:
            loss = accelerator.reduce(loss, reduction="sum").item()
            row = {"step": step, "loss": loss, **current, "seconds": clock.read()}
            row |= held_out(run, clock, figures) if due else {}
            log.write(row)
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if args.checkpoint_every and step % args.checkpoint_every == 0:
            run.checkpoints.save(step)
    windows.close()
    return log.last()


class Clock:
    """Seconds of training over all sittings of a run, without the evaluations.

    Args:
        seconds (`float`): of the sittings before this one.
    """

    def __init__(self, seconds: float) -> None:
        self.started = time.perf_counter() - seconds

    def read(self) -> float:
        """Seconds until now."""
        return time.perf_counter() - self.started

    def leave_out(self, seconds: float) -> None:
        """Do not count the last `seconds`.

        Args:
            seconds (`float`): what an evaluation took.
        """
        self.started += seconds


def held_out(run: LanguageRun, clock: Clock, figures: Figures | None = None) -> dict[str, float]:
    """Held-out loss and perplexity, with what the optimizer tells of its last step.

    Args:
        run (`LanguageRun`): in training.
        clock (`Clock`): stands still meanwhile.
        figures (`Callable`, *optional*): see [`train_run`].
    """
    before = time.perf_counter()
    loss = run.data.held_out.loss(run.model)
    row = {"eval_loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    row |= figures(run.optimizer) if figures is not None else {}
    clock.leave_out(time.perf_counter() - before)
    return row


def save_run(
    run: LanguageRun,
    summary: dict[str, Any],
    write_more: Callable[[], None],
    also: tuple[str, ...] = (),
) -> None:
    """Write model, tokenizer and summary, then what else the script has to write, such as a card; push if asked to.

    Args:
        run (`LanguageRun`): at its end.
        summary (`dict`): its figures, for `summary.json`.
        write_more (`Callable`): called on the main process after the model is saved.
        also (`tuple[str, ...]`, *optional*, defaults to `()`): further files of the folder to push.
    """
    run.accelerator.wait_for_everyone()
    state = run.accelerator.get_state_dict(run.model)  # collective: gathers shards
    if not run.accelerator.is_main_process:
        return
    folder = run.args.output_dir
    run.unwrapped.save_pretrained(folder, state_dict=state)  # type: ignore[operator]  # a transformers model
    tokenizer_files = run.tokenizer.save_pretrained(folder)
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_more()
    if run.args.push_to_hub:
        push_folder(folder, run.args.hub_model_id, also=[*(Path(name).name for name in tokenizer_files), *also])
