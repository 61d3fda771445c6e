# SPDX-License-Identifier: Apache-2.0
"""What can be known to fail before a model is loaded."""

import argparse
import json
import os
from importlib.util import find_spec
from pathlib import Path

from gan_options import CHECKPOINTS, EMBEDDED_DATA, PROJECTED, REPLACED

from eigenhub.training.launcher import asked_engine
from eigenhub.training.options import check_range, check_run_options
from eigenhub.training.text_source import check_source


def check_gan_options(args: argparse.Namespace) -> None:
    """Raises for whatever both scripts can know to fail before a model is loaded."""
    check_range(args, ("lr", "discriminator_lr", "ada_kimg"), above=True)
    check_range(args, ("r1_gamma", "pl_weight", "ema_kimg", "ema_rampup", "workers"))
    for name in ("mixing", "ada_p"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"--{name} must be in [0, 1], got {getattr(args, name)}")
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(args, name) < 1:
            raise ValueError(f"--{name} must be in [0, 1), got {getattr(args, name)}")
    if not -1 < args.ada_target < 1:
        raise ValueError(f"--ada_target must be in (-1, 1), got {args.ada_target}")
    if (args.ada_fixed or args.ada_p) and not args.ada:
        raise ValueError("--ada_p and --ada_fixed need --ada")
    if args.dataset not in EMBEDDED_DATA:
        check_source(args.dataset)
    _check_features(args)
    check_engine()
    check_run_options(args)


def check_engine() -> None:
    """Raises where `accelerate launch` asks for what two networks with second derivatives cannot be trained under."""
    if (engine := asked_engine()) is not None:
        raise ValueError(f"{engine} shards one network with first derivatives: launch with --multi_gpu, or one GPU")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "bf16"):
        raise ValueError(f"--mixed_precision must be no or bf16, got {precision}; for float16 see --num_fp16_res")


def check_group(batch: int, group_size: int) -> None:
    """Raises where the discriminator could not compare the samples of a batch."""
    if batch % min(batch, group_size):
        raise ValueError(
            f"--per_device_batch_size must be divisible by the {group_size} samples that the discriminator compares "
            f"(mbstd_group_size), or smaller; got {batch}"
        )


def check_model_options(args: argparse.Namespace) -> None:
    """Raises for an architecture that cannot be."""
    size = args.image_size
    if size < 8 or size & (size - 1):
        raise ValueError(f"--image_size must be a power of two, at least 8, got {size}")
    if args.conditional and args.dataset == "shapes":
        raise ValueError("--conditional needs labels, which --dataset shapes does not have")
    check_group(args.per_device_batch_size, args.mbstd_group_size or 4)


def check_arm(args: argparse.Namespace) -> None:
    """Raises for an arm whose settings contradict each other."""
    check_range(args, ("lr_ortho", "penalty_eps"), above=True)
    check_range(args, ("penalty_weight",))
    if args.train == "projector" and args.arm not in REPLACED:
        raise ValueError(f"--train projector is for --arm {', '.join(REPLACED)}; got --arm {args.arm}")
    if args.directions == "parameter" and args.arm not in PROJECTED:
        raise ValueError(f"--directions parameter needs projectors, which --arm {args.arm} does not have: take svd")
    if args.gain not in ("mean", "unit", "equalized"):
        try:
            args.gain = float(args.gain)
        except ValueError as error:
            raise ValueError(f"--gain must be mean, unit, equalized or a number, got {args.gain!r}") from error
    _check_model(args.model)


def _check_model(name: str) -> None:
    path = Path(name).expanduser()
    if (name.endswith(CHECKPOINTS) or name.startswith((".", "/", "~"))) and not path.exists():
        raise FileNotFoundError(f"--model: no such file or folder: {name}")
    config = path / "config.json"
    if path.is_dir() and not (config.is_file() and json.loads(config.read_text()).get("model_type") == "stylegan2"):
        raise ValueError(f"--model: {name} holds no config.json of a StyleGAN2")


def _check_features(args: argparse.Namespace) -> None:
    if args.eval_features == "embedded" and args.dataset not in EMBEDDED_DATA:
        raise ValueError("--eval_features embedded is for the embedded data: take inception")
    if args.eval_features == "inception" and find_spec("torch_fidelity") is None:
        raise ValueError("--eval_features inception needs torch-fidelity: pip install 'eigenhub[fid]'")
    if args.inception_weights is not None and not args.inception_weights.is_file():
        raise FileNotFoundError(f"--inception_weights: no such file: {args.inception_weights}")
