# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,track]"]
# ///
"""Fine-tune a model with SORSA, or with a baseline under the same loop.

Without a download, in a few seconds (handwritten digits; the base model was pretrained on turned ones):

    accelerate launch scripts/sorsa/train_sorsa.py --config scripts/sorsa/configs/digits.yaml

A causal language model on prompts and responses from the Hub or from local files, on two GPUs:

    accelerate launch --config_file scripts/accelerate_configs/multi_gpu.yaml scripts/sorsa/train_sorsa.py \
        --model meta-llama/Llama-3.2-1B --dataset openai/gsm8k --dataset_config main --lr 1e-4 --r 32 \
        --checkpoint_every 100 --resume auto --eval_gsm8k --eval_split test --output_dir runs/llama-gsm8k

The published run on Llama-2-7B: `--config scripts/sorsa/configs/llama2_7b_metamath.yaml`.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.launcher import asked_engine
from eigenhub.training.options import (
    EMBEDDED,
    FLAG,
    PLUMBING,
    add_gsm8k_options,
    add_optimisation_options,
    add_run_options,
    add_text_options,
    as_settings,
    check_options,
    check_range,
    fixed_settings,
    make_parser,
    positive_int,
)


if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import DataLoader

    from eigenhub.training.checkpoint import Checkpoints


METHODS = ("sorsa", "lora", "pissa", "dora", "adalora", "full")
SORSA_ONLY = ("reg_weight", "gamma", "gamma_official_accum", "svd_driver", "svd_cache", "export_lora")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    group = parser.add_argument_group("what")
    group.add_argument("--task", choices=("digits", "causal_lm"), default="digits", help="default: %(default)s")
    group.add_argument("--method", choices=METHODS, default="sorsa", help="default: %(default)s")
    group.add_argument(
        "--model", default=EMBEDDED, help="Hub id or folder; embedded (default): a small one, made here"
    )
    group.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="of the base"
    )
    group = parser.add_argument_group("adapter")
    group.add_argument(
        "--r", "--rank", type=positive_int, default=16, help="default: %(default)s (torchrun needs --rank)"
    )
    group.add_argument("--alpha", type=float, help="the scale is alpha / r; default: scale 1")
    group.add_argument("--dropout", type=float, default=0.0, help="default: %(default)s")
    group.add_argument(
        "--target_modules", nargs="+", help="names, or all-linear; default: the usual ones of the model"
    )
    group.add_argument("--reg_weight", type=float, help="sorsa: weight of the penalty; default: 0.2")
    group.add_argument("--gamma", type=float, help="sorsa: the paper's gamma instead: reg_weight = gamma / lr")
    group.add_argument(
        "--gamma_official_accum", action=FLAG, default=False, help="... / accumulation, as its code does"
    )
    group.add_argument("--svd_driver", choices=("auto", "full", "gram", "randomized"), help="sorsa; default: auto")
    group.add_argument("--svd_cache", type=Path, help="sorsa: file from `eigenhub sorsa svd-cache`")
    group.add_argument("--export_lora", action=FLAG, default=False, help="sorsa: also a plain LoRA in OUTPUT_DIR/lora")
    add_text_options(parser)
    add_optimisation_options(parser)
    add_run_options(parser, output_dir="runs/sorsa")
    add_gsm8k_options(parser)

    supersedes = {"gamma": ("reg_weight",), "reg_weight": ("gamma", "gamma_official_accum"), "epochs": ("max_steps",)}
    args = parse_with_config(parser, argv, supersedes)
    try:
        check_options(args)
        check_arguments(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    args.command = as_command("accelerate launch scripts/sorsa/train_sorsa.py", parser, args, left_out=PLUMBING)
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """This script's own options, as far as they can be known to fail before a model is loaded."""
    check_range(args, ("alpha",), above=True)
    check_range(args, ("gamma", "reg_weight"))
    if not 0 <= args.dropout < 1:
        raise ValueError(f"--dropout must be in [0, 1), got {args.dropout}")
    if args.gamma is not None and args.reg_weight is not None:
        raise ValueError("--gamma and --reg_weight exclude each other")
    if args.gamma_official_accum and args.gamma is None:
        raise ValueError("--gamma_official_accum needs --gamma")
    if args.task == "digits" and (args.dataset != EMBEDDED or args.eval_gsm8k):
        raise ValueError("--task digits brings its own data; --dataset and --eval_gsm8k are for --task causal_lm")
    if args.model.startswith((".", "/", "~")) and not Path(args.model).expanduser().is_dir():
        raise FileNotFoundError(f"--model: no such folder: {args.model}")
    if args.svd_cache and not args.svd_cache.is_file():
        raise FileNotFoundError(f"--svd_cache: no such file: {args.svd_cache}")
    if args.export_lora and (engine := asked_engine()) is not None:
        raise ValueError(
            f"--export_lora reads whole weights, of which {engine} keeps shards: `eigenhub export` the result"
        )
    if args.resume and args.method == "adalora":
        raise ValueError("adalora cannot resume: PEFT's rank allocator keeps its scores outside of the state dict")


@dataclass
class Run:
    """What the functions below share: the prepared objects of one run."""

    args: argparse.Namespace
    accelerator: "Accelerator"
    task: "Digits | CausalLM"
    model: "Module"
    optimizer: "Optimizer"
    scheduler: "LRScheduler"
    loader: "DataLoader"
    max_steps: int
    trainable: int
    checkpoints: "Checkpoints"

    @cached_property  # unwrapping reads package metadata each time, which takes as long as a small layer
    def adapted(self) -> "Module":
        """The model without the wrappers of the distributed engines."""
        return self.accelerator.unwrap_model(self.model)


def main(argv: list[str] | None = None) -> tuple[Run, dict]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from accelerate.utils import set_seed

    from eigenhub.training.publish import create_repo
    from eigenhub.training.setup import make_accelerator

    started = time.perf_counter()
    accelerator = make_accelerator(args, project="sorsa")
    if ignored := [name for name in SORSA_ONLY if args.method != "sorsa" and getattr(args, name)]:
        accelerator.print(f"{args.method} ignores: {', '.join(ignored)}")
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    set_seed(args.seed)
    with accelerator.main_process_first():  # the main process fills the caches that the others read
        task = (Digits if args.task == "digits" else CausalLM)(args)
    run = prepare(args, accelerator, task)
    set_seed(args.seed, device_specific=True)  # dropout masks differ from process to process
    last_row = train(run, first_step=run.checkpoints.resume(args.resume))
    summary = {
        "task": args.task,
        "method": args.method,
        "steps": run.max_steps,
        "final_loss": last_row.get("loss"),
        "trainable_parameters": run.trainable,
        "num_processes": accelerator.num_processes,
        "train_seconds": time.perf_counter() - started,
        **task.evaluate(accelerator, run.adapted),
        **conditioning(run),
        "settings": as_settings(args),
    }
    save(run, summary)
    accelerator.free_memory()  # before the end: DeepSpeed tidies up through the process group
    accelerator.end_training()
    return run, summary


def prepare(args: argparse.Namespace, accelerator: "Accelerator", task: "Digits | CausalLM") -> Run:
    """Adapter, optimizer and schedule around the task's model and data."""
    import torch
    from transformers import get_scheduler

    from eigenhub.training.accumulation import check_loss_kwargs
    from eigenhub.training.checkpoint import Checkpoints
    from eigenhub.training.setup import is_sharded, make_loader

    check_loss_kwargs(task.model)
    if not is_sharded(accelerator):
        task.model.to(accelerator.device)  # SVDs run where the weights are
    loader = make_loader(args, accelerator, task.train_rows, task.collate)
    batches_per_epoch = len(loader) // accelerator.num_processes
    max_steps = args.max_steps or math.ceil(args.epochs * batches_per_epoch / args.gradient_accumulation_steps)

    base = {id(parameter) for parameter in task.model.parameters()}
    model = add_adapter(task.model, args, accelerator, task.target_modules, max_steps)
    frozen_base = {name for name, p in model.named_parameters() if id(p) in base and not p.requires_grad}
    if args.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    accelerator.print(f"{args.method}: {trainable:,} trainable parameters, {max_steps} steps")

    optimizer = torch.optim.AdamW(parameter_groups(model, args), lr=args.lr)
    warmup_steps = math.ceil(args.warmup * max_steps) if args.warmup < 1 else int(args.warmup)
    scheduler = get_scheduler(args.lr_scheduler, optimizer, warmup_steps, max_steps)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # Not prepared but registered: a prepared scheduler advances once per process.
    accelerator.register_for_checkpointing(scheduler)
    checkpoints = Checkpoints(
        accelerator,
        args.output_dir / "checkpoints",
        fixed_settings(args),
        args.keep_checkpoints,
        # PiSSA moves the frozen weights, so its checkpoints carry them; elsewhere they are as they were loaded.
        left_out=frozen_base if args.method != "pissa" else (),
    )
    return Run(args, accelerator, task, model, optimizer, scheduler, loader, max_steps, trainable, checkpoints)


def train(run: Run, first_step: int) -> dict:
    """The loop; returns the last row of the metrics."""
    from tqdm.auto import tqdm

    from eigenhub.training.accumulation import endless_windows
    from eigenhub.training.metrics_log import MetricsLog

    args, accelerator = run.args, run.accelerator
    log = MetricsLog(args.output_dir / "metrics.jsonl", first_step, accelerator.is_main_process)
    windows = endless_windows(run.loader, args.gradient_accumulation_steps, first_step)
    steps = range(first_step + 1, run.max_steps + 1)
    bar = tqdm(steps, args.method, disable=not accelerator.is_local_main_process)
    run.model.train()
    for step in bar:
        lr = run.scheduler.get_last_lr()[0]
        loss = optimizer_step(run, next(windows), step)
        if step % args.logging_steps == 0 or step == run.max_steps:
            loss = accelerator.reduce(loss, reduction="sum").item()
            row = {"step": step, "loss": loss, "lr": lr, **penalty(run)}
            log.write(row)
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if args.checkpoint_every and step % args.checkpoint_every == 0:
            run.checkpoints.save(step)
    windows.close()
    return log.last()


def optimizer_step(run: Run, batches: list[dict], step: int) -> "Tensor":
    """One step over all its accumulated batches; returns this process's part of the mean loss."""
    import torch

    from eigenhub.training.accumulation import count_items, loss_scale

    accelerator, model = run.accelerator, run.model
    num_items = count_items(batches, accelerator, run.task.predicts_next)
    losses = []
    for batch in batches:
        with accelerator.accumulate(model):
            loss = model(**batch, num_items_in_batch=num_items).loss
            accelerator.backward(loss * loss_scale(accelerator) + penalty_in_loss(run))
            if accelerator.sync_gradients:
                finish_gradients(run)
            run.optimizer.step()
            if accelerator.sync_gradients:
                after_step(run, step)
            run.optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses).sum()


def penalty_in_loss(run: Run) -> "Tensor | float":
    """Under DeepSpeed, which steps inside of `backward`, the penalty has to be part of the loss."""
    from eigenhub.training.setup import is_deepspeed

    if run.args.method != "sorsa" or not is_deepspeed(run.accelerator):
        return 0.0
    from eigenhub.tuners.sorsa import orthonormality_penalty

    return run.adapted.peft_config["default"].reg_weight * orthonormality_penalty(run.adapted)


def finish_gradients(run: Run) -> None:
    """Clips the task's gradient, then adds the penalty's, which is not clipped (as in the official code)."""
    from eigenhub.training.setup import is_deepspeed

    if run.args.max_grad_norm > 0:
        run.accelerator.clip_grad_norm_(run.model.parameters(), run.args.max_grad_norm)
    else:
        run.accelerator.unscale_gradients(run.optimizer)  # fp16: the penalty's gradient is not scaled
    if run.args.method == "sorsa" and not is_deepspeed(run.accelerator):
        from eigenhub.tuners.sorsa import apply_regularizer

        apply_regularizer(run.adapted)


def after_step(run: Run, step: int) -> None:
    if not run.accelerator.optimizer_step_was_skipped:  # fp16: an overflow
        run.scheduler.step()
    if run.args.method == "adalora":
        run.adapted.base_model.update_and_allocate(step)


def penalty(run: Run) -> dict[str, float]:
    if run.args.method != "sorsa":
        return {}
    import torch

    from eigenhub.tuners.sorsa import orthonormality_penalty

    with torch.no_grad():
        return {"penalty": orthonormality_penalty(run.adapted).item()}


class Digits:
    """Upright handwritten digits for a classifier that has only seen turned ones."""

    predicts_next = False
    collate = None

    def __init__(self, args: argparse.Namespace) -> None:
        from transformers import AutoModelForImageClassification

        from eigenhub.embedded.digits import as_rows, load_digits
        from eigenhub.embedded.vit import TARGET_MODULES, pretrained_vit_folder

        folder = pretrained_vit_folder() if args.model == EMBEDDED else args.model
        self.model = AutoModelForImageClassification.from_pretrained(folder, dtype=args.dtype)
        self.target_modules = list(TARGET_MODULES)
        splits = load_digits()
        self.train_rows, self.test_rows = as_rows(splits["train"]), as_rows(splits["test"])

    def evaluate(self, accelerator: "Accelerator", model: "Module") -> dict[str, float]:
        from eigenhub.training.accuracy import accuracy

        return {"accuracy": accuracy(accelerator, model, self.test_rows)}

    def benchmark(self) -> tuple[str, str, str]:
        return "image-classification", "sklearn/digits", "test"


class CausalLM:
    """Text: responses to prompts, or plain text in blocks."""

    predicts_next = True
    target_modules = None  # PEFT knows the usual ones per architecture

    def __init__(self, args: argparse.Namespace) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq

        from eigenhub.embedded.text import language_model, text_rows
        from eigenhub.training.text_source import find_columns
        from eigenhub.training.tokenization import tokenize

        self.args = args
        names = (args.prompt_column, args.response_column)
        rows = text_rows(args.dataset, args.dataset_split, args.dataset_config)
        columns = find_columns(rows.column_names, *names, args.text_column)
        if args.eval_gsm8k:
            elsewhere = args.eval_dataset is not None
            config = args.eval_config if elsewhere else args.dataset_config
            self.problems = text_rows(args.eval_dataset or args.dataset, args.eval_split, config)
            self.asked = find_columns(self.problems.column_names, *(() if elsewhere else names))
        folder = language_model(args.model, args.dataset, rows, columns)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.train_rows = tokenize(
            rows, self.tokenizer, columns, args.max_length, args.prompt_template, args.max_length_each
        )
        self.collate = DataCollatorForSeq2Seq(self.tokenizer, padding=True, label_pad_token_id=-100)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=args.dtype)

    def evaluate(self, accelerator: "Accelerator", model: "Module") -> dict[str, float]:
        from eigenhub.training.gsm8k import exact_match

        args = self.args
        if not args.eval_gsm8k:
            return {}
        problems = self.problems.take(min(args.eval_samples or len(self.problems), len(self.problems)))
        columns = (self.asked.prompt, self.asked.response)
        options = (columns, args.prompt_template, args.eval_batch_size, args.max_new_tokens)
        accuracy = exact_match(accelerator, model, self.tokenizer, problems, *options)
        return {"accuracy": accuracy, "evaluated": len(problems)}

    def benchmark(self) -> tuple[str, str, str]:
        return "text-generation", self.args.eval_dataset or self.args.dataset, self.args.eval_split


def add_adapter(model: "Module", args: argparse.Namespace, accelerator: "Accelerator", targets, max_steps: int):
    """The model with its adapter, everything else frozen; for `full` the model itself."""
    if args.method == "full":
        return model
    from peft import get_peft_model

    targets = args.target_modules or targets
    targets = "all-linear" if targets == ["all-linear"] else targets
    common = {"target_modules": targets, "task_type": "CAUSAL_LM" if args.task == "causal_lm" else None}
    if args.method == "sorsa":
        return get_peft_model(model, sorsa_config(args, common))
    return get_peft_model(model, baseline_config(args, common, accelerator, max_steps))


def sorsa_config(args: argparse.Namespace, common: dict):
    from eigenhub.tuners.sorsa import SorsaConfig, lambda_from_gamma

    options = {"reg_weight": args.reg_weight, "svd_driver": args.svd_driver}
    if args.gamma is not None:
        accumulation = args.gradient_accumulation_steps if args.gamma_official_accum else 1
        options["reg_weight"] = lambda_from_gamma(args.gamma, args.lr, accumulation)
    options["svd_cache"] = str(args.svd_cache) if args.svd_cache else None
    given = {name: value for name, value in options.items() if value is not None}
    return SorsaConfig(r=args.r, alpha=args.alpha, dropout=args.dropout, seed=args.seed, **given, **common)


def baseline_config(args: argparse.Namespace, common: dict, accelerator: "Accelerator", max_steps: int):
    from peft import AdaLoraConfig, LoraConfig

    common = {"lora_alpha": args.alpha or args.r, "lora_dropout": args.dropout, **common}
    if args.method != "adalora":
        init = "pissa" if args.method == "pissa" else True
        return LoraConfig(r=args.r, init_lora_weights=init, use_dora=args.method == "dora", **common)
    # AdaLoRA adds its own penalty to the model's loss, which the loop multiplies by accumulation and world size.
    penalty = 0.5 / (args.gradient_accumulation_steps * accelerator.num_processes)
    schedule = {"tinit": max_steps // 10, "tfinal": max_steps // 3, "deltaT": max(1, max_steps // 100)}
    ranks = {"init_r": args.r + args.r // 2, "target_r": args.r}
    return AdaLoraConfig(total_step=max_steps, orth_reg_weight=penalty, **ranks, **schedule, **common)


def parameter_groups(model: "Module", args: argparse.Namespace) -> list[dict]:
    if args.method == "sorsa":
        from eigenhub.tuners.sorsa import sorsa_param_groups

        return sorsa_param_groups(model, args.lr, args.weight_decay)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]  # DeepSpeed drops an empty one, the scheduler would not


def conditioning(run: Run) -> dict[str, float]:
    """Final penalty, and the median condition number of the adapted blocks U diag(S) V."""
    if run.args.method != "sorsa":
        return {}
    from eigenhub.tuners.sorsa import spectrum_report

    spectra = spectrum_report(run.adapted).values()
    return {**penalty(run), "condition_number": median(spectrum.kappa for spectrum in spectra)}


def save(run: Run, summary: dict) -> None:
    """Writes the adapter (nothing is merged), the summary and the card; pushes if asked to."""
    from eigenhub.training.publish import push_folder

    run.accelerator.wait_for_everyone()
    state = run.accelerator.get_state_dict(run.model)  # collective: gathers shards
    if not run.accelerator.is_main_process:
        return
    folder = run.args.output_dir
    run.adapted.save_pretrained(folder, state_dict=state)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    if run.args.method == "sorsa":
        from eigenhub.hub.cards import write_card
        from eigenhub.training.results_file import write_accuracy
        from eigenhub.tuners.sorsa import export_lora

        if "accuracy" in summary:
            setting = f"rank {run.args.r}, {run.max_steps} steps, peak learning rate {run.args.lr:g}"
            write_accuracy(run.args, run.accelerator, summary["accuracy"], setting, *run.task.benchmark())
        write_card(folder, overwrite=True, repo_id=run.args.hub_model_id)
        if run.args.export_lora:
            export_lora(run.adapted, folder / "lora")
    if run.args.push_to_hub:
        push_folder(folder, run.args.hub_model_id)


if __name__ == "__main__":
    main()
