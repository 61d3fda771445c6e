# SPDX-License-Identifier: Apache-2.0
"""What `train_send.py` refuses before a model or data is loaded, and which checkpoint it goes on from."""

import argparse
import re
from pathlib import Path

from eigenhub.training.checkpoint_files import read_manifest
from eigenhub.training.launcher import asked_engine
from eigenhub.training.options import EMBEDDED, check_range


_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoints_folder(args: argparse.Namespace) -> Path:
    """Where the trainer keeps its checkpoints.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    return args.output_dir / "checkpoints"


def list_trainer_checkpoints(folder: Path) -> list[Path]:
    """Folders with the name of a checkpoint of the trainer, by step, whole or not.

    Args:
        folder (`Path`): that holds them.
    """
    found = [(int(match[1]), path) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def resolve_resume(args: argparse.Namespace) -> None:
    """Puts the newest complete checkpoint in place of `auto`; refuses to overwrite those of another run.

    Args:
        args (`argparse.Namespace`): of the script; `resume` becomes a folder or None.
    """
    found = list_trainer_checkpoints(checkpoints_folder(args))
    if args.resume is None and found:
        raise ValueError(f"{args.output_dir} holds checkpoints: pass --resume auto or another --output_dir")
    if args.resume == "auto":
        complete = (path for path in reversed(found) if read_manifest(path) is not None)
        newest = next(complete, None)
        args.resume = None if newest is None else str(newest)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises for whatever can be known to fail, beside what the shared checks find.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    if asked_engine() == "DEEPSPEED":
        raise ValueError(
            "DEEPSPEED takes one accelerator, and the trainer makes its own beside the script's: launch with fsdp2.yaml or "
            "multi_gpu.yaml"
        )
    check_range(args, ("alpha",), above=True)
    check_range(args, ("freeze_layers", "score_prompts"))
    for name in ("rho", "dropout", "ema_decay", "track_fraction"):
        high = 0.9 if name == "rho" else 1.0
        if not 0 < getattr(args, name) < high:
            raise ValueError(f"--{name} must be above 0 and below {high:g}, got {getattr(args, name)}")
    for name, least in (("window", 2), ("refresh_every", 1), ("num_samples", 2)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    if not 0 <= args.lora_dropout < 1:
        raise ValueError(f"--lora_dropout must be in [0, 1), got {args.lora_dropout}")
    if not args.temperature > 0:
        raise ValueError(f"--temperature must be above 0, where all answers are the same, got {args.temperature}")
    if args.index_space == "hidden" and args.site != "mlp":
        raise ValueError(f"--index_space hidden is for --site mlp, got --site {args.site}")
    _check_stop(args)
    _check_data(args)


def _check_stop(args: argparse.Namespace) -> None:
    if (args.stop_loss is None) != (args.stop_score is None):
        raise ValueError("--stop_loss and --stop_score go together")
    if args.stop_score is not None and not args.score_prompts:
        raise ValueError("--stop_score needs --score_prompts: it is their mean EigenScore")


def _check_data(args: argparse.Namespace) -> None:
    if args.model.startswith((".", "/", "~")) and not Path(args.model).expanduser().is_dir():
        raise FileNotFoundError(f"--model: no such folder: {args.model}")
    if args.dataset == EMBEDDED:
        if args.eval_split or args.eval_dataset:
            raise ValueError("--eval_dataset and --eval_split are for --dataset: the facts bring their own questions")
        if args.track_fraction > 0.5:
            raise ValueError(f"--track_fraction must be at most 0.5 for the embedded facts, got {args.track_fraction}")
        return
    if args.model == EMBEDDED:
        raise ValueError("--model embedded knows the words of the embedded facts only: name a model for --dataset")
    if not 0 < args.test_fraction < 1 or args.test_fraction + args.track_fraction >= 1:
        raise ValueError(
            f"--test_fraction must be above 0 and leave rows to train on beside --track_fraction, got {args.test_fraction}"
        )
