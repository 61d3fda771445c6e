# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[track]"]
# ///
r"""Train a language model with DCT-AdamW, Trion, AuON or a baseline, all under one loop with equal auxiliary settings.

Without a download, in a minute (a tiny byte-level Llama on the sources of Python's standard library):

    accelerate launch scripts/dct/train_lm.py --config scripts/dct/configs/llama_bytes_tiny.yaml --optimizer trion

A Llama from scratch on streamed C4, on eight GPUs, stopped and continued at will:

    accelerate launch --config_file scripts/accelerate_configs/multi_gpu.yaml --num_processes 8 \
        scripts/dct/train_lm.py --config scripts/dct/configs/llama_350m.yaml --optimizer dct_adamw --rank 256

The matrices are the weights of linear layers but for the output head; everything else (embeddings, head, norms) is trained
by AdamW with `--aux_lr`, the same for every optimizer. Published comparisons often tune one of the two rates only.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lm_options import add_optimizer_options, check_optimizer, drop_checkpoints, ignored_options

from eigenhub.embedded.llama_sizes import LLAMA_SIZES
from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.checkpoint_files import latest_checkpoint
from eigenhub.training.options import (
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
    from lm_data import LanguageData
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from transformers import PreTrainedTokenizerBase

    from eigenhub.training.checkpoint import Checkpoints


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    group = parser.add_argument_group("model")
    sizes = ", ".join(LLAMA_SIZES)
    group.add_argument(
        "--model", default="llama_bytes_tiny", help=f"{sizes} (from scratch), or a Hub id or folder; %(default)s"
    )
    group.add_argument("--from_scratch", action=FLAG, default=False, help="of a Hub id only the architecture")
    group.add_argument("--tokenizer", help="Hub id, folder or `bytes`; default: the model's own, else bytes")
    group.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the weights")
    group.add_argument("--license", default="apache-2.0", help="of the trained weights; default: %(default)s")
    add_optimizer_options(parser)
    add_text_options(parser)
    group = parser.add_argument_group("held-out text")
    group.add_argument("--streaming", action=FLAG, default=False, help="read the data set while training")
    group.add_argument(
        "--eval_every", type=positive_int, help="steps between held-out losses; default: at the end only"
    )
    group.add_argument("--eval_tokens", type=positive_int, default=1_000_000, help="at most; default: %(default)s")
    add_optimisation_options(parser, lr=None)
    group = parser.add_argument_group("end of the schedule")
    group.add_argument("--min_lr_ratio", type=float, default=0.1, help="last over peak rate; default: %(default)s")
    add_run_options(parser, output_dir="runs/lm")
    add_gsm8k_options(parser)
    parser.set_defaults(max_length=128, eval_split=None)

    args = parse_with_config(parser, argv, supersedes={"epochs": ("max_steps",)})
    try:
        check_options(args)
        check_arguments(args)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    args.command = as_command("accelerate launch scripts/dct/train_lm.py", parser, args, left_out=PLUMBING)
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """This script's own options, as far as they can be known to fail before a model is loaded."""
    check_optimizer(args)
    check_range(args, ("aux_lr", "aux_eps"))
    if not 0 <= args.min_lr_ratio <= 1:
        raise ValueError(f"--min_lr_ratio must be in [0, 1], got {args.min_lr_ratio}")
    if args.model.startswith((".", "/", "~")) and not Path(args.model).expanduser().is_dir():
        raise FileNotFoundError(f"--model: no such folder: {args.model}")
    if args.streaming and not args.max_steps:
        raise ValueError("--streaming needs --max_steps: the length of a stream is not known")
    if args.streaming and not (args.eval_split or args.eval_dataset):
        raise ValueError("--streaming needs --eval_split or --eval_dataset: a stream cannot be cut")
    if args.eval_gsm8k and not args.eval_split:
        raise ValueError("--eval_gsm8k needs --eval_split")


@dataclass
class Run:
    """What the functions below share: the prepared objects of one run."""

    args: argparse.Namespace
    accelerator: "Accelerator"
    data: "LanguageData"
    model: "Module"
    tokenizer: "PreTrainedTokenizerBase"
    optimizer: "Optimizer"
    scheduler: "LRScheduler"
    max_steps: int
    checkpoints: "Checkpoints"

    @cached_property
    def unwrapped(self) -> "Module":
        """The model without the wrappers of the distributed engines."""
        return self.accelerator.unwrap_model(self.model)


def main(argv: list[str] | None = None) -> tuple[Run, dict]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from accelerate.utils import set_seed
    from lm_report import summarise

    from eigenhub.training.publish import create_repo
    from eigenhub.training.setup import make_accelerator

    accelerator = make_accelerator(args, project="language-models")
    if ignored := ignored_options(args):
        accelerator.print(f"{args.optimizer} ignores: {', '.join(ignored)}")
    if drop_checkpoints(args):
        accelerator.print(f"{args.optimizer} cannot resume: no checkpoints are written")
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    set_seed(args.seed)
    run = prepare(args, accelerator)
    last_row = train(run, first_step=resume(run))
    summary = {**summarise(run, last_row), **run.data.accuracy(run.unwrapped), "settings": as_settings(args)}
    save(run, summary)
    accelerator.end_training()
    accelerator.free_memory()
    return run, summary


def prepare(args: argparse.Namespace, accelerator: "Accelerator") -> Run:
    """Model, data, optimizer and schedule, ready for the loop."""
    from lm_data import LanguageData
    from lm_optimizers import build_optimizer, routing_summary

    from eigenhub.training.accumulation import check_loss_kwargs
    from eigenhub.training.checkpoint import Checkpoints
    from eigenhub.training.schedule import lr_schedule
    from eigenhub.training.setup import is_sharded

    with accelerator.main_process_first():  # the main process fills the caches that the others read
        tokenizer = load_tokenizer(args)
        data = LanguageData(args, accelerator, tokenizer)
    model = build_model(args, tokenizer)
    check_loss_kwargs(model)
    if not is_sharded(accelerator):
        model.to(accelerator.device)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    max_steps = args.max_steps or math.ceil(args.epochs * data.steps_per_epoch)

    optimizer, groups = build_optimizer(model, args)
    accelerator.print(f"{routing_summary(groups)}\n{args.optimizer}, {max_steps} steps")
    if accelerator.is_main_process:
        (args.output_dir / "parameter_groups.md").write_text(groups.table() + "\n")
    scheduler = lr_schedule(optimizer, args.lr_scheduler, args.warmup, max_steps, args.min_lr_ratio)
    model, optimizer = data.prepare(model, optimizer)
    # Not prepared but registered: a prepared scheduler advances once per process.
    accelerator.register_for_checkpointing(scheduler)
    settings = {**fixed_settings(args), "held_out": data.held_out_name}
    checkpoints = Checkpoints(accelerator, args.output_dir / "checkpoints", settings, args.keep_checkpoints)
    return Run(args, accelerator, data, model, tokenizer, optimizer, scheduler, max_steps, checkpoints)


def load_tokenizer(args: argparse.Namespace) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    from eigenhub.embedded.byte_tokenizer import byte_tokenizer

    name = args.tokenizer or ("bytes" if args.model in LLAMA_SIZES else args.model)
    tokenizer = byte_tokenizer(max(1024, args.max_length)) if name == "bytes" else AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_model(args: argparse.Namespace, tokenizer: "PreTrainedTokenizerBase") -> "Module":
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from eigenhub.embedded.llama_sizes import llama_config

    if args.model not in LLAMA_SIZES and not args.from_scratch:
        return AutoModelForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    if args.model in LLAMA_SIZES:
        config = llama_config(args.model, tokenizer, args.max_length)
    else:
        config = AutoConfig.from_pretrained(args.model, vocab_size=len(tokenizer))
    dtype = torch.float32 if args.dtype == "auto" else getattr(torch, args.dtype)
    return AutoModelForCausalLM.from_config(config, dtype=dtype)


def resume(run: Run) -> int:
    """Restores the asked-for checkpoint, if any; returns the number of steps done."""
    newest = latest_checkpoint(run.checkpoints.folder) if run.args.resume == "auto" else run.args.resume
    if newest is None:
        return 0
    step = run.checkpoints.restore(Path(newest))
    run.accelerator.print(f"resumed after step {step} from {newest}")
    return step


def train(run: Run, first_step: int) -> dict:
    """The loop; returns the last row of the metrics."""
    from lm_report import watch_subspaces
    from tqdm.auto import tqdm

    from eigenhub.training.accumulation import optimizer_step
    from eigenhub.training.metrics_log import MetricsLog

    args, accelerator = run.args, run.accelerator
    log = MetricsLog(args.output_dir / "metrics.jsonl", first_step, accelerator.is_main_process)
    windows = run.data.windows(first_step)
    clock = Clock(log.last().get("seconds", 0.0))
    bar = tqdm(range(first_step + 1, run.max_steps + 1), args.optimizer, disable=not accelerator.is_local_main_process)
    run.model.train()
    for step in bar:
        due = step == run.max_steps or (args.eval_every is not None and step % args.eval_every == 0)
        watch_subspaces(run.optimizer, due)
        rates = current_rates(run.optimizer)
        loss = optimizer_step(accelerator, run.model, run.optimizer, next(windows), True, args.max_grad_norm)
        if not accelerator.optimizer_step_was_skipped:  # fp16: an overflow
            run.scheduler.step()
        if due or step % args.logging_steps == 0:
            loss = accelerator.reduce(loss, reduction="sum").item()
            row = {"step": step, "loss": loss, **rates, "seconds": clock.read()}
            row |= held_out(run, clock) if due else {}
            log.write(row)
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if args.checkpoint_every and step % args.checkpoint_every == 0:
            run.checkpoints.save(step)
    windows.close()
    return log.last()


class Clock:
    """Seconds of training over all sittings of a run, without the evaluations."""

    def __init__(self, seconds: float) -> None:
        self.started = time.perf_counter() - seconds

    def read(self) -> float:
        return time.perf_counter() - self.started

    def leave_out(self, seconds: float) -> None:
        self.started += seconds


def current_rates(optimizer: "Optimizer") -> dict[str, float]:
    """Learning rates of this step: that of the matrices, which come first, and that of the rest."""
    return {"lr": optimizer.param_groups[0]["lr"], "aux_lr": optimizer.param_groups[-1]["lr"]}


def held_out(run: Run, clock: Clock) -> dict[str, float]:
    """Held-out loss and perplexity, with what the optimizer tells about its subspaces."""
    from lm_report import subspace_figures

    before = time.perf_counter()
    loss = run.data.held_out.loss(run.model)
    row = {"eval_loss": loss, "perplexity": math.exp(min(loss, 700.0)), **subspace_figures(run.optimizer)}
    clock.leave_out(time.perf_counter() - before)
    return row


def save(run: Run, summary: dict) -> None:
    """Writes model, tokenizer, optimizer configuration, summary and card; pushes if asked to."""
    run.accelerator.wait_for_everyone()
    state = run.accelerator.get_state_dict(run.model)  # collective: gathers shards
    if not run.accelerator.is_main_process:
        return
    from lm_optimizers import optimizer_config
    from lm_report import write_model_card

    folder = run.args.output_dir
    run.unwrapped.save_pretrained(folder, state_dict=state)
    tokenizer_files = run.tokenizer.save_pretrained(folder)
    if (config := optimizer_config(run.args)) is not None:
        config.save_pretrained(folder)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_model_card(run, summary)
    if run.args.push_to_hub:
        from eigenhub.training.publish import push_folder

        also = [Path(name).name for name in tokenizer_files]
        push_folder(folder, run.args.hub_model_id, also=[*also, "parameter_groups.md"])


if __name__ == "__main__":
    main()
