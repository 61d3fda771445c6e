# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,track]"]
# ///
r"""Train S5, S5-PTD, S4D or S4-PTD on the Long Range Arena, on Speech Commands, or on small tasks that need no download.

Without a download, in half a minute (handwritten digits, read pixel by pixel):

    accelerate launch scripts/s5_ptd/train_lra.py --config scripts/s5_ptd/configs/digits.yaml --init legs

The published settings, one file per task and initialisation; ListOps is generated, IMDb, CIFAR-10 and Speech Commands come
from the Hub, the other data from a folder of the arena's release; stopped and continued at will:

    accelerate launch --mixed_precision bf16 scripts/s5_ptd/train_lra.py \
        --config scripts/s5_ptd/configs/s5_ptd_lra_listops.yaml
    accelerate launch scripts/s5_ptd/train_lra.py --config scripts/s5_ptd/configs/s5_lra_pathx.yaml \
        --data_dir lra_release/pathfinder128

State space parameters learn at `--ssm_lr`, everything else at `--lr`; see `s5_param_groups` and `s4d_param_groups`.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lra_options import add_model_options, add_reading_options, add_task_options, check_lra, ignored_options

from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.options import (
    PLUMBING,
    add_optimisation_options,
    add_run_options,
    fixed_settings,
    make_parser,
)


if TYPE_CHECKING:
    from accelerate import Accelerator
    from lra_best import BestWeights
    from lra_tasks import TaskData
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import DataLoader
    from transformers import PreTrainedModel

    from eigenhub.training.checkpoint import Checkpoints


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_task_options(parser)
    add_model_options(parser)
    add_reading_options(parser)
    add_optimisation_options(parser, lr=4e-3)
    add_run_options(parser, output_dir="runs/lra")
    parser.add_argument("--license", default="apache-2.0", help="of the trained weights; default: %(default)s")
    parser.set_defaults(weight_decay=0.05, per_device_batch_size=50)
    args = parse_with_config(parser, argv, supersedes={"epochs": ("max_steps",)})
    try:
        check_lra(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    args.command = as_command(
        "accelerate launch scripts/s5_ptd/train_lra.py", parser, args, left_out=PLUMBING | {"data_dir"}
    )
    return args


@dataclass
class Run:
    """What the functions below share: the prepared objects of one run."""

    args: argparse.Namespace
    accelerator: "Accelerator"
    data: "TaskData"
    model: "PreTrainedModel"
    optimizer: "Optimizer"
    scheduler: "LRScheduler"
    loader: "DataLoader"
    max_steps: int
    checkpoints: "Checkpoints"

    @cached_property
    def unwrapped(self) -> "PreTrainedModel":
        """The model without the wrappers of the distributed engines."""
        return self.accelerator.unwrap_model(self.model)


def main(argv: list[str] | None = None) -> tuple[Run, dict]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from accelerate.utils import set_seed
    from lra_best import BestWeights
    from lra_report import summarise
    from lra_tasks import load_task

    from eigenhub.training.publish import create_repo
    from eigenhub.training.setup import make_accelerator

    started = time.perf_counter()
    accelerator = make_accelerator(args, project="long-sequences")
    if ignored := ignored_options(args):
        accelerator.print(f"{args.model} ignores: {', '.join(ignored)}")
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    with accelerator.main_process_first():  # the main process fills the caches that the others read
        data = load_task(args)
    set_seed(args.seed)
    run = prepare(args, accelerator, data)
    set_seed(args.seed, device_specific=True)  # dropout masks differ from process to process
    first_step = run.checkpoints.resume(args.resume)
    best = BestWeights(args.output_dir / "best", first_step) if keeps_best(run) else None
    accelerator.wait_for_everyone()  # nothing is read there before it has been tidied up
    last_row = train(run, first_step, best)
    accelerator.wait_for_everyone()  # the main process may still be writing
    best_step = best.load_into(run.unwrapped) if best else None
    summary = summarise(run, last_row, best_step, time.perf_counter() - started)
    save(run, summary)
    accelerator.free_memory()  # before the end: DeepSpeed tidies up through the process group
    accelerator.end_training()
    return run, summary


def prepare(args: argparse.Namespace, accelerator: "Accelerator", data: "TaskData") -> Run:
    """Model, optimizer and schedule around the task's data."""
    from lra_models import build_model, build_optimizer, group_summary

    from eigenhub.training.checkpoint import Checkpoints
    from eigenhub.training.schedule import lr_schedule
    from eigenhub.training.setup import make_loader

    model = build_model(args, data)
    if args.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    loader = make_loader(args, accelerator, data.train, data.collate)
    per_epoch = len(loader) / accelerator.num_processes / args.gradient_accumulation_steps
    max_steps = args.max_steps or math.ceil(args.epochs * per_epoch)

    optimizer = build_optimizer(model, args)
    accelerator.print(f"{group_summary(optimizer)}\n{args.model} {args.init} on {args.task}: {max_steps} steps")
    scheduler = lr_schedule(optimizer, args.lr_scheduler, args.warmup, args.schedule_steps or max_steps)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # Not prepared but registered: a prepared scheduler advances once per process.
    accelerator.register_for_checkpointing(scheduler)
    folder = args.output_dir / "checkpoints"
    checkpoints = Checkpoints(accelerator, folder, fixed_settings(args), args.keep_checkpoints)
    return Run(args, accelerator, data, model, optimizer, scheduler, loader, max_steps, checkpoints)


def keeps_best(run: Run) -> bool:
    """Whether there is something to choose weights by, more than once, and an engine that leaves them whole."""
    from eigenhub.training.setup import is_sharded

    wanted = run.args.keep_best and run.args.eval_every is not None and run.data.validation is not None
    return wanted and not is_sharded(run.accelerator)


def train(run: Run, first_step: int, best: "BestWeights | None") -> dict:
    """The loop; returns the last row of the metrics."""
    from tqdm.auto import tqdm

    from eigenhub.training.accumulation import endless_windows
    from eigenhub.training.metrics_log import MetricsLog
    from eigenhub.training.setup import average_statistics

    args, accelerator = run.args, run.accelerator
    log = MetricsLog(args.output_dir / "metrics.jsonl", first_step, accelerator.is_main_process)
    windows = endless_windows(run.loader, args.gradient_accumulation_steps, first_step)
    name = f"{args.model} {args.init}"
    bar = tqdm(range(first_step + 1, run.max_steps + 1), name, disable=not accelerator.is_local_main_process)
    run.model.train()
    for step in bar:
        due = step == run.max_steps or (args.eval_every is not None and step % args.eval_every == 0)
        rate = run.optimizer.param_groups[-1]["lr"]
        loss = optimizer_step(run, next(windows))
        if due:
            average_statistics(accelerator, run.model)
        if due or step % args.logging_steps == 0:
            loss = accelerator.reduce(loss, reduction="mean").item()
            row = {"step": step, "loss": loss, "lr": rate} | (validate(run) if due else {})
            log.write(row)
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if due and best is not None:
                keep(run, best, row)
        if args.checkpoint_every and step % args.checkpoint_every == 0:
            average_statistics(accelerator, run.model)
            run.checkpoints.save(step)
    windows.close()
    return log.last()


def optimizer_step(run: Run, batches: list[dict]) -> "Tensor":
    """One step over all its accumulated batches; returns this process's mean loss.

    Every batch is full and every row has one target, so the mean of the batches' means is the mean over the rows.
    """
    import torch

    losses = []
    for batch in batches:
        with run.accelerator.accumulate(run.model):
            loss = run.model(**batch).loss
            run.accelerator.backward(loss)
            if run.accelerator.sync_gradients and run.args.max_grad_norm > 0:
                run.accelerator.clip_grad_norm_(run.model.parameters(), run.args.max_grad_norm)
            run.optimizer.step()
            run.optimizer.zero_grad()
        losses.append(loss.detach())
    if not run.accelerator.optimizer_step_was_skipped:  # fp16: an overflow
        run.scheduler.step()
    return torch.stack(losses).mean()


def validate(run: Run) -> dict[str, float]:
    """Figures on the validation data, if there is any."""
    from lra_evaluation import evaluate

    if run.data.validation is None:
        return {}
    found = evaluate(run.accelerator, run.model, run.data.validation, run.data.collate, run.args.eval_batch_size)
    return {f"validation_{name}": value for name, value in found.items()}


def keep(run: Run, best: "BestWeights", row: dict) -> None:
    """Offers the weights of this step."""
    state = run.accelerator.get_state_dict(run.model)
    if run.accelerator.is_main_process:
        best.offer(row, state)


def save(run: Run, summary: dict) -> None:
    """Writes model, tokenizer, summary, figures and card; pushes if asked to."""
    run.accelerator.wait_for_everyone()
    state = run.accelerator.get_state_dict(run.model)  # collective: gathers shards
    if not run.accelerator.is_main_process:
        return
    from lra_report import write_figures, write_model_card

    folder = run.args.output_dir
    run.unwrapped.save_pretrained(folder, state_dict=state)
    also = [] if run.data.tokenizer is None else run.data.tokenizer.save_pretrained(folder)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_figures(run, summary)
    write_model_card(run, summary)
    if run.args.push_to_hub:
        from eigenhub.training.publish import push_folder

        push_folder(folder, run.args.hub_model_id, also=[Path(name).name for name in also])


if __name__ == "__main__":
    main()
