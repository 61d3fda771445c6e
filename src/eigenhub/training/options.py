# SPDX-License-Identifier: Apache-2.0
"""The options that training scripts have in common, in groups, and the checks that need no model.

A script adds its own options beside these and calls [`check_options`] before it imports anything heavy.
"""

import argparse
from pathlib import Path

from eigenhub.training.checkpoint_files import check_settings, latest_checkpoint, list_checkpoints, read_manifest
from eigenhub.training.launcher import asked_engine
from eigenhub.training.text_source import check_source


FLAG = argparse.BooleanOptionalAction
#: Stands for the data and the model that need no network.
EMBEDDED = "embedded"

#: Say where a run goes, not what comes out of it.
PLUMBING = frozenset(
    """output_dir config resume checkpoint_every keep_checkpoints logging_steps report_to push_to_hub hub_model_id
    export_lora license workers grid inception_weights""".split()
)
# What may change between a run and its continuation; a longer `max_steps` stretches the schedule from there on.
_FREE_ON_RESUME = PLUMBING | frozenset(
    """max_steps epochs eval_gsm8k eval_dataset eval_config eval_split eval_samples eval_batch_size max_new_tokens eval_every
    eval_tokens eval_features directions command""".split()
)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that prints a script's docstring as it is, fit for [`parse_with_config`]."""
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=formatter, allow_abbrev=False)


def positive_int(text: str) -> int:
    """An argument type: an integer of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """Which text to learn from, and how it is laid out for the model."""
    group = parser.add_argument_group("text")
    group.add_argument(
        "--dataset", default=EMBEDDED, help="Hub id, local folder or file; embedded (default): generated"
    )
    group.add_argument("--dataset_config", help="configuration of a data set on the Hub")
    group.add_argument("--dataset_split", default="train", help="with an optional slice, as in train[:1000]")
    group.add_argument("--prompt_column", help="guessed for well-known names (question/answer, query/response, ...)")
    group.add_argument("--response_column", help="see --prompt_column")
    group.add_argument("--text_column", help="plain text instead of prompts, packed into blocks of --max_length")
    group.add_argument("--prompt_template", default="{prompt}\n", help="what the model reads; must contain {prompt}")
    group.add_argument("--max_length", type=positive_int, default=512, help="tokens per row; default: %(default)s")
    group.add_argument("--max_length_each", action=FLAG, default=False, help="cut prompt and response separately")


def add_optimisation_options(parser: argparse.ArgumentParser, lr: float | None = 1e-4) -> None:
    """Learning rate (with `lr=None` the script has its own default), batches, length of the run, numerics."""
    schedules = ("linear", "cosine", "constant", "constant_with_warmup")
    group = parser.add_argument_group("optimisation")
    group.add_argument("--lr", type=float, default=lr, help=f"peak learning rate; default: {lr or 'see above'}")
    group.add_argument("--lr_scheduler", default="cosine", choices=schedules, help="default: %(default)s")
    group.add_argument(
        "--warmup", type=float, default=0.03, help="steps, or below 1 their share; default: %(default)s"
    )
    group.add_argument("--weight_decay", type=float, default=0.0, help="default: %(default)s")
    group.add_argument("--max_grad_norm", type=float, default=1.0, help="0 for no clipping; default: %(default)s")
    group.add_argument("--per_device_batch_size", type=positive_int, default=8, help="default: %(default)s")
    group.add_argument("--gradient_accumulation_steps", type=positive_int, default=1, help="default: %(default)s")
    group.add_argument("--max_steps", type=positive_int, help="optimizer steps; overrides --epochs")
    group.add_argument("--epochs", type=float, default=1.0, help="default: %(default)s")
    group.add_argument("--tf32", action=FLAG, default=False, help="TF32 matrix products on CUDA")
    group.add_argument("--gradient_checkpointing", action=FLAG, default=False)
    group.add_argument("--seed", type=int, default=42, help="default: %(default)s")


def add_held_out_options(parser: argparse.ArgumentParser) -> None:
    """How the text of a language model is read, what of it is held out, and where its learning rate ends."""
    group = parser.add_argument_group("held-out text and end of the schedule")
    group.add_argument("--streaming", action=FLAG, default=False, help="read the data set while training")
    group.add_argument(
        "--eval_every", type=positive_int, help="steps between held-out losses; default: at the end only"
    )
    group.add_argument("--eval_tokens", type=positive_int, default=1_000_000, help="at most; default: %(default)s")
    group.add_argument("--min_lr_ratio", type=float, default=0.1, help="last over peak rate; default: %(default)s")


def add_run_options(parser: argparse.ArgumentParser, output_dir: str) -> None:
    """Where results go: checkpoints, logs, trackers, the Hub."""
    group = parser.add_argument_group("results")
    group.add_argument("--output_dir", type=Path, default=Path(output_dir), help="default: %(default)s")
    group.add_argument(
        "--checkpoint_every", type=positive_int, help="optimizer steps between checkpoints; default: none"
    )
    group.add_argument("--keep_checkpoints", type=positive_int, default=2, help="default: %(default)s")
    group.add_argument("--resume", help="auto (the newest complete checkpoint, if any) or a checkpoint folder")
    group.add_argument("--logging_steps", type=positive_int, default=1, help="default: %(default)s")
    group.add_argument("--report_to", default="none", help="none, all, tensorboard, wandb, trackio, ...")
    group.add_argument("--push_to_hub", action=FLAG, default=False)
    group.add_argument("--hub_model_id", help="repository to push to")


def add_gsm8k_options(parser: argparse.ArgumentParser) -> None:
    """Accuracy on problems that end on a number."""
    group = parser.add_argument_group("evaluation on GSM8K-like data")
    group.add_argument("--eval_gsm8k", action=FLAG, default=False, help="exact match of the final number, at the end")
    group.add_argument("--eval_dataset", help="default: --dataset")
    group.add_argument("--eval_config", help="configuration of --eval_dataset on the Hub")
    group.add_argument("--eval_split", default="test", help="default: %(default)s")
    group.add_argument("--eval_samples", type=positive_int, help="only the first ones")
    group.add_argument("--eval_batch_size", type=positive_int, default=16, help="default: %(default)s")
    group.add_argument("--max_new_tokens", type=positive_int, default=256, help="default: %(default)s")


def check_held_out(args: argparse.Namespace) -> None:
    """Raises for options of [`add_held_out_options`] that cannot be, or not together."""
    if not 0 <= args.min_lr_ratio <= 1:
        raise ValueError(f"--min_lr_ratio must be in [0, 1], got {args.min_lr_ratio}")
    if args.streaming and not args.max_steps:
        raise ValueError("--streaming needs --max_steps: the length of a stream is not known")
    if args.streaming and not (args.eval_split or args.eval_dataset):
        raise ValueError("--streaming needs --eval_split or --eval_dataset: a stream cannot be cut")


def check_tracker(name: str) -> None:
    """Raises for a tracker that accelerate does not know, and for one that is not installed, which it passes over."""
    if name in ("none", "all"):
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known, here = sorted(LOGGER_TYPE_TO_CLASS), sorted(str(tracker) for tracker in get_available_trackers())
    if name not in known:
        raise ValueError(f"--report_to must be one of none, all, {', '.join(known)}, got {name!r}")
    if name not in here:
        raise ValueError(f"--report_to {name}: it is not installed; installed are {', '.join(here) or 'none'}")


def check_options(args: argparse.Namespace) -> None:
    """Raises for whatever among the options above can be known to fail before a model is loaded."""
    check_range(args, ("lr", "epochs"), above=True)
    check_range(args, ("warmup", "weight_decay", "max_grad_norm"))
    if "{prompt}" not in args.prompt_template:
        raise ValueError(f"--prompt_template must contain {{prompt}}, got {args.prompt_template!r}")
    if getattr(args, "eval_gsm8k", False) and asked_engine() == "FSDP":
        raise ValueError("--eval_gsm8k generates, which FSDP cannot from shards: evaluate the saved model")
    for source in (args.dataset, args.eval_dataset):
        if source not in (None, EMBEDDED):
            check_source(source)
    check_run_options(args)


def check_run_options(args: argparse.Namespace) -> None:
    """Raises a `ValueError` for a destination that is missing or not installed, and for checkpoints in the way of the run."""
    if args.push_to_hub and not args.hub_model_id:
        raise ValueError("--push_to_hub needs --hub_model_id")
    check_tracker(args.report_to)
    check_resume(args)


def check_resume(args: argparse.Namespace) -> None:
    """Raises a `ValueError` where a run would overwrite another's checkpoints or cannot continue the one it is to."""
    folder = args.output_dir / "checkpoints"
    if args.resume is None and list_checkpoints(folder):
        raise ValueError(f"{args.output_dir} holds checkpoints: pass --resume auto or another --output_dir")
    checkpoint = latest_checkpoint(folder) if args.resume == "auto" else args.resume and Path(args.resume)
    if not checkpoint:
        return
    if (manifest := read_manifest(checkpoint)) is None:
        raise ValueError(f"--resume: {checkpoint} is not a complete checkpoint (or say auto)")
    check_settings(checkpoint, manifest["settings"], fixed_settings(args))


def check_range(args: argparse.Namespace, names: tuple[str, ...], above: bool = False) -> None:
    """Raises a `ValueError` for a given number that is negative, or not above zero."""
    for name in names:
        value = getattr(args, name)
        if value is not None and not (value > 0 if above else value >= 0):
            raise ValueError(f"--{name} must be {'positive' if above else 'at least 0'}, got {value}")


def as_settings(args: argparse.Namespace) -> dict[str, object]:
    """The arguments as JSON values."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}


def fixed_settings(args: argparse.Namespace) -> dict[str, object]:
    """The settings that a continued run has to share with the run that wrote the checkpoint."""
    return {name: value for name, value in as_settings(args).items() if name not in _FREE_ON_RESUME}
