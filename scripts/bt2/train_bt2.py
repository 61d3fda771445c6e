# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,track]"]
# ///
"""Train an image embedder that searches an old model's index (BT2), its teachers, or a baseline, under one loop.

Without a download, in half a minute (glyphs drawn from fonts; both teachers are trained on the spot the first time):

    accelerate launch scripts/bt2/train_bt2.py --config scripts/bt2/configs/glyphs.yaml

The published experiment on CIFAR-100 in its three stages: the old model on half of the classes, the new one on all, then
the new one with the head, taught by cached vectors of both (`--backbone timm/resnet50.a1_in1k` where timm is installed):

    accelerate launch scripts/bt2/train_bt2.py --config scripts/bt2/configs/cifar100_old.yaml
    accelerate launch scripts/bt2/train_bt2.py --config scripts/bt2/configs/cifar100_new.yaml
    accelerate launch scripts/bt2/train_bt2.py --config scripts/bt2/configs/cifar100_bt2.yaml

`--method bct` and `--method oca` are the baselines with two trainings.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bt2_options import (
    add_image_options,
    add_loss_options,
    add_model_options,
    add_training_options,
    check_options,
    ignored_options,
    needed_teachers,
    resolve,
)

from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.options import PLUMBING, as_settings, fixed_settings, make_parser


if TYPE_CHECKING:
    from accelerate import Accelerator
    from bt2_data import Split, TrainRows
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import DataLoader

    from eigenhub.models.bt2.item_vectors import ItemVectors
    from eigenhub.training.checkpoint import Checkpoints


REBASE_EVERY = 10


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    for add_group in (add_model_options, add_loss_options, add_image_options, add_training_options):
        add_group(parser)
    args = parse_with_config(parser, argv, supersedes={"epochs": ("max_steps",)})
    args.command = as_command("accelerate launch scripts/bt2/train_bt2.py", parser, args, left_out=PLUMBING)
    try:
        resolve(args)
        check_options(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return args


@dataclass
class Run:
    """What the functions below share: the prepared objects of one run."""

    args: argparse.Namespace
    accelerator: "Accelerator"
    train_split: "Split"
    test_split: "Split"
    rows: "TrainRows"
    teachers: dict[str, "Module | None"]
    vectors: dict[str, "ItemVectors"]
    model: "Module"
    optimizer: "Optimizer"
    scheduler: "LRScheduler"
    loader: "DataLoader"
    max_steps: int
    checkpoints: "Checkpoints"

    @cached_property
    def unwrapped(self) -> "Module":
        """The model without the wrappers of the distributed engines."""
        return self.accelerator.unwrap_model(self.model)

    @cached_property
    def columns(self) -> dict[str, "Tensor"]:
        """Teacher vectors of the training items, row by row, on the device."""
        ids, device = self.train_split.ids, self.accelerator.device
        return {f"{name}_embedding": kept.of(ids).to(device) for name, kept in self.vectors.items()}


def main(argv: list[str] | None = None) -> tuple[Run, dict]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from accelerate.utils import set_seed

    from eigenhub.training.publish import create_repo
    from eigenhub.training.setup import make_accelerator

    started = time.perf_counter()
    accelerator = make_accelerator(args, project="bt2")
    if ignored := ignored_options(args):
        accelerator.print(f"{args.method} ignores: {', '.join(ignored)}")
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    run = prepare(args, accelerator)
    set_seed(args.seed, device_specific=True)  # dropout masks differ from process to process
    last_row = train(run, first_step=run.checkpoints.resume(args.resume))
    summary = summarise(run, last_row, time.perf_counter() - started)
    save(run, summary)
    accelerator.free_memory()
    accelerator.end_training()
    return run, summary


def prepare(args: argparse.Namespace, accelerator: "Accelerator") -> Run:
    """Data, teachers and their vectors, model, optimizer and schedule, ready for the loop."""
    from accelerate.utils import set_seed
    from bt2_data import TrainRows, load_splits
    from bt2_models import build_model, make_optimizer, trained_parameters
    from bt2_teachers import identity, load_teacher, vectors_of

    from eigenhub.training.checkpoint import Checkpoints
    from eigenhub.training.schedule import lr_schedule
    from eigenhub.training.setup import make_loader

    with accelerator.main_process_first():  # the main process fills the caches that the others read
        train_split, test_split = load_splits(args)
        names = [name for name in ("old", "new") if name in needed_teachers(args) or given(args, name)]
        teachers = {name: load_teacher(args, name) for name in names}
    vectors = {name: vectors_of(accelerator, args, name, model, train_split) for name, model in teachers.items()}
    taught = {name: kept.of(train_split.ids) for name, kept in vectors.items()}
    set_seed(args.seed)  # here: the weights do not depend on how the teachers came
    model = build_model(
        args,
        train_split.classes,
        train_split.labels,
        taught.get("old"),
        taught.get("new"),
        teachers.get("new"),
        identity(args, "old", vectors["old"]) if "old" in vectors else None,
    )
    if args.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    rows = TrainRows(train_split, args.augment, args.seed)
    loader = make_loader(args, accelerator, rows, workers=args.workers)
    per_epoch = len(loader) // accelerator.num_processes
    max_steps = args.max_steps or math.ceil(args.epochs * per_epoch / args.gradient_accumulation_steps)
    accelerator.print(f"{args.method}: {trained_parameters(model):,} trainable parameters, {max_steps} steps")

    optimizer = make_optimizer(args, model)
    scheduler = lr_schedule(optimizer, args.lr_scheduler, args.warmup, max_steps)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # Not prepared but registered: a prepared scheduler advances once per process.
    accelerator.register_for_checkpointing(scheduler)
    checkpoints = Checkpoints(
        accelerator, args.output_dir / "checkpoints", fixed_settings(args), args.keep_checkpoints
    )
    for teacher in teachers.values():
        if teacher is not None:
            teacher.to(accelerator.device)
    parts = (train_split, test_split, rows, teachers, vectors)
    return Run(args, accelerator, *parts, model, optimizer, scheduler, loader, max_steps, checkpoints)


def given(args: argparse.Namespace, teacher: str) -> bool:
    """Whether a teacher was named that the method can do without: then it is compared with."""
    return bool(getattr(args, f"{teacher}_model") or getattr(args, f"{teacher}_vectors"))


def train(run: Run, first_step: int) -> dict:
    """The loop; returns the last row of the metrics."""
    from tqdm.auto import tqdm

    from eigenhub.training.metrics_log import MetricsLog
    from eigenhub.training.setup import average_statistics

    args, accelerator = run.args, run.accelerator
    log = MetricsLog(args.output_dir / "metrics.jsonl", first_step, accelerator.is_main_process)
    batches = endless_batches(run, first_step * args.gradient_accumulation_steps)
    bar = tqdm(range(first_step + 1, run.max_steps + 1), args.method, disable=not accelerator.is_local_main_process)
    run.model.train()
    if args.freeze_backbone:
        run.unwrapped.get_submodule("bt2.backbone" if args.method == "bt2" else "backbone").eval()
    for step in bar:
        lr = run.scheduler.get_last_lr()[0]
        terms = optimizer_step(run, batches)
        rebase(run, step)
        if step % args.logging_steps == 0 or step == run.max_steps:
            row = {"step": step, **means(accelerator, terms), "lr": lr}
            log.write(row)
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
            bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
        if args.checkpoint_every and step % args.checkpoint_every == 0:
            average_statistics(accelerator, run.model)
            run.checkpoints.save(step)
    batches.close()
    average_statistics(accelerator, run.model)
    return log.last()


def endless_batches(run: Run, skip: int) -> Iterator[dict[str, "Tensor"]]:
    """Batch after batch across epochs, from the one on that a resumed run has to see next."""
    from accelerate import skip_first_batches

    epoch, offset = divmod(skip, len(run.loader))
    while True:
        run.loader.set_epoch(epoch)  # the order of an epoch depends on the seed and its number alone,
        run.rows.epoch = epoch  # and so do the views
        yield from skip_first_batches(run.loader, offset) if offset else run.loader
        epoch, offset = epoch + 1, 0


def optimizer_step(run: Run, batches: Iterator[dict[str, "Tensor"]]) -> dict[str, "Tensor"]:
    """One step over all its accumulated batches, which are equally long; returns this process's mean terms."""
    import torch

    accelerator, found = run.accelerator, []
    for _ in range(run.args.gradient_accumulation_steps):
        inputs = with_teachers(run, next(batches))
        with accelerator.accumulate(run.model):
            output = run.model(**inputs)
            accelerator.backward(output.loss)
            if accelerator.sync_gradients and run.args.max_grad_norm > 0:
                accelerator.clip_grad_norm_(run.model.parameters(), run.args.max_grad_norm)
            run.optimizer.step()
            if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:  # fp16: an overflow
                run.scheduler.step()
            run.optimizer.zero_grad()
        found.append({"loss": output.loss.detach(), **{k: v.detach() for k, v in output.loss_terms.items()}})
    return {name: torch.stack([terms[name] for terms in found]).mean() for name in found[0]}


def with_teachers(run: Run, batch: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """A batch with the columns that the model takes; baselines know the old model by its class means alone."""
    from bt2_models import same_view_teachers

    rows = batch.pop("row")
    if run.args.method != "bt2":
        return batch
    if run.args.teacher_view == "same":
        seen = same_view_teachers(run.teachers, batch["pixel_values"])
        return batch | {f"{name}_embedding": vectors for name, vectors in seen.items()}
    return batch | {name: column[rows] for name, column in run.columns.items()}


def rebase(run: Run, step: int) -> None:
    """Keeps the Cayley map where it is steep; the change is invisible to everything but the optimizer."""
    from eigenhub.models.bt2.bt2_training import rebase_long_rotations_
    from eigenhub.training.setup import is_sharded

    if step % REBASE_EVERY == 0 and not is_sharded(run.accelerator):
        rebase_long_rotations_(run.unwrapped, run.optimizer)


def means(accelerator: "Accelerator", terms: dict[str, "Tensor"]) -> dict[str, float]:
    import torch

    mean = accelerator.reduce(torch.stack(list(terms.values())), reduction="mean")
    return dict(zip(terms, mean.tolist(), strict=True))


def summarise(run: Run, last_row: dict, seconds: float) -> dict[str, Any]:
    """The figures of a finished run; retrieval on the test split by the main process."""
    from bt2_models import trained_parameters
    from bt2_report import backfill, gains, retrieval, table, warnings_of
    from bt2_teachers import embed, vectors_of

    from eigenhub.training.results_file import hardware

    args, accelerator, split = run.args, run.accelerator, run.test_split
    student = embed(accelerator, run.unwrapped, split, args.eval_batch_size, args.workers)
    known = {
        name: vectors_of(accelerator, args, name, model, split).of(split.ids) for name, model in run.teachers.items()
    }
    found, on_the_way = {}, {}
    if accelerator.is_main_process:
        found = retrieval(split, student, known.get("old"), known.get("new"))
        on_the_way = backfill(split, student, known.get("old"))
    said = warnings_of(found)
    accelerator.print("\n".join([table(found), *said]))
    return {
        "method": args.method,
        "steps": run.max_steps,
        "final_loss": last_row.get("loss"),
        "trainable_parameters": trained_parameters(run.unwrapped),
        "num_processes": accelerator.num_processes,
        "hardware": hardware(accelerator),
        "seconds": seconds,
        "retrieval": found,
        "update_gain": gains(found),
        "backfill": on_the_way,
        "warnings": said,
        "settings": as_settings(args),
    }


def save(run: Run, summary: dict) -> None:
    """Writes model, summary, results and card; pushes if asked to."""
    run.accelerator.wait_for_everyone()
    state = run.accelerator.get_state_dict(run.model)  # collective: gathers shards
    if not run.accelerator.is_main_process:
        return
    from bt2_report import measured, write_card

    from eigenhub.hub.results import Results

    args = run.args
    run.unwrapped.save_pretrained(args.output_dir, state_dict=state)
    (args.output_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    results = Results("bt2", measured(args, run.accelerator, summary["retrieval"], run.max_steps))
    write_card(args, results, run.unwrapped.config.to_dict(), summary)
    if args.push_to_hub:
        from eigenhub.training.publish import push_folder

        push_folder(args.output_dir, args.hub_model_id)


if __name__ == "__main__":
    main()
