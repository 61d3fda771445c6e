# SPDX-License-Identifier: Apache-2.0
"""The optimizers of `train_lm.py` by name, with their options. Strings and numbers only, so that `--help` is instant."""

import argparse
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from eigenhub.training.launcher import flattening_engine
from eigenhub.training.options import FLAG, positive_int


@dataclass(frozen=True)
class Choice:
    """
    One value of `--optimizer`.

    Args:
        lr (`float`): default peak rate of the matrices.
        options (`str`, *optional*, defaults to `""`): the optional flags that it takes; others are ignored, and named.
        module (`str`, *optional*): module that another project brings it in.
        package (`str`, *optional*): what that is called on PyPI.
        resumes (`bool`, *optional*, defaults to `True`): whether its state can be saved and loaded.
    """

    lr: float
    options: str = ""
    module: str | None = None
    package: str | None = None
    resumes: bool = True


_SUBSPACE = "rank basis score_norm transform project state_dtype "
_MOMENTUM = "momentum nesterov "
_PROJECTOR = "rank update_proj_gap projector_scale betas eps"

OPTIMIZERS = {
    "dct_adamw": Choice(
        2e-3, _SUBSPACE + "update_proj_gap rotate error_feedback residual per_slot_bias_correction betas eps"
    ),
    "trion": Choice(2e-2, _SUBSPACE + "momentum scale ns_steps ns_coefficients rank_rms_correction"),
    "auon": Choice(1e-2, _MOMENTUM + "gamma variant adjust_lr"),
    "hybrid_auon": Choice(2e-2, _MOMENTUM + "gamma variant adjust_lr ns_steps"),
    "adamw": Choice(1e-3, "betas eps"),
    "muon": Choice(2e-2, _MOMENTUM + "adjust_lr ns_steps"),
    # These keep a projector object in their state: torch.load(weights_only=True) refuses it.
    "galore": Choice(1e-2, _PROJECTOR, "galore_torch", "galore-torch", resumes=False),
    "apollo": Choice(1e-2, _PROJECTOR, "apollo_torch", "apollo-torch", resumes=False),
    "fira": Choice(1e-2, _PROJECTOR, "pytorch_optimizer", "pytorch_optimizer", resumes=False),
    "frozen": Choice(0.0),
}
#: Treat every number alike, so that they do not mind flattened weights.
ELEMENTWISE = ("adamw", "frozen")
OURS = ("dct_adamw", "trion", "auon", "hybrid_auon")


def rank_value(text: str) -> int | float:
    """An argument type: `64` columns, or `0.25` of the width."""
    try:
        value: int | float = int(text)
    except ValueError:
        value = float(text)
    if value <= 0 or (isinstance(value, float) and value > 1):
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1 or a fraction in (0, 1], got {text}")
    return value


def add_optimizer_options(parser: argparse.ArgumentParser) -> None:
    """`--optimizer`, what all of them share, and the options of each; without a flag a class keeps its own default."""
    group = parser.add_argument_group("optimizer of the matrices (the others' options are ignored, and named)")
    rates = ", ".join(f"{name} {choice.lr:g}" for name, choice in OPTIMIZERS.items() if choice.lr)
    group.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="dct_adamw", help=f"default: %(default)s. Peak rates: {rates}"
    )
    group.add_argument("--betas", type=float, nargs=2, default=[0.9, 0.95], help="AdamW and its kin; %(default)s")
    group.add_argument("--eps", type=float, default=1e-8, help="AdamW and its kin; default: %(default)s")
    group.add_argument("--rank", type=rank_value, help="columns (64) or fraction of the width (0.25)")
    group.add_argument("--update_proj_gap", type=positive_int, help="steps between two choices of the subspace")
    group.add_argument("--basis", choices=("dct2", "dct3", "random", "identity"))
    group.add_argument("--score_norm", type=int, choices=(1, 2))
    group.add_argument("--transform", choices=("auto", "fft", "matmul"))
    group.add_argument("--project", choices=("auto", "right", "left"))
    group.add_argument("--state_dtype", choices=("float32", "bfloat16"))
    group.add_argument("--rotate", action=FLAG, help="carry moments along when the subspace changes")
    group.add_argument("--error_feedback", choices=("fp32", "bf16", "int8"))
    group.add_argument("--residual", choices=("fira",))
    group.add_argument("--per_slot_bias_correction", action=FLAG)
    group.add_argument("--momentum", type=float)
    group.add_argument("--nesterov", action=FLAG)
    group.add_argument("--scale", choices=("spectral", "none", "match_rms_adamw", "dion"), help="trion: by shape")
    group.add_argument("--rank_rms_correction", action=FLAG)
    group.add_argument("--ns_steps", type=positive_int, help="Newton-Schulz iterations")
    group.add_argument("--ns_coefficients", choices=("fixed", "per_step"))
    group.add_argument("--gamma", type=float, help="auon: strength of the brake; 0: plain normalised momentum")
    group.add_argument("--variant", choices=("normalized", "package", "rms"), help="auon: which published form")
    group.add_argument("--adjust_lr", choices=("original", "match_rms_adamw"), help="auon, muon: rate by shape")
    group.add_argument("--projector_scale", type=float, help="galore, apollo, fira: their `scale`")
    group.add_argument("--target_modules", nargs="+", help="names of linear layers; default: all but the head")

    group = parser.add_argument_group("AdamW of everything else, the same for every optimizer")
    group.add_argument("--aux_lr", type=float, default=1e-3, help="peak learning rate; default: %(default)s")
    group.add_argument("--aux_betas", type=float, nargs=2, default=[0.9, 0.95], help="default: %(default)s")
    group.add_argument("--aux_eps", type=float, default=1e-8, help="default: %(default)s")


def check_optimizer(args: argparse.Namespace) -> None:
    """Raises for what can be known to fail without importing torch."""
    choice = OPTIMIZERS[args.optimizer]
    if (engine := flattening_engine()) is not None and args.optimizer not in ELEMENTWISE:
        raise ValueError(
            f"--optimizer {args.optimizer} needs matrices, which {engine} flattens to vectors: launch with fsdp2.yaml or "
            "multi_gpu.yaml, or take --optimizer adamw"
        )
    if choice.module is not None and find_spec(choice.module) is None:
        raise ImportError(f"--optimizer {args.optimizer} needs another package: pip install {choice.package}")
    if not choice.resumes and args.resume not in (None, "auto"):
        raise ValueError(f"{args.optimizer} cannot resume: it keeps Python objects in its state")
    for name in ("betas", "aux_betas"):
        if not all(0 <= beta < 1 for beta in getattr(args, name)):
            raise ValueError(f"--{name} must be two numbers in [0, 1), got {getattr(args, name)}")
    if args.momentum is not None and not 0 <= args.momentum < 1:
        raise ValueError(f"--momentum must be in [0, 1), got {args.momentum}")
    if args.residual and args.error_feedback and args.optimizer == "dct_adamw":
        raise ValueError("--residual and --error_feedback exclude each other")
    if choice.module is not None and isinstance(args.rank, float):
        raise ValueError(f"--rank of {args.optimizer} must be an integer, got {args.rank}")


def peak_rate(args: argparse.Namespace) -> float:
    """Peak rate of the matrices."""
    return OPTIMIZERS[args.optimizer].lr if args.lr is None else args.lr


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the chosen optimizer that have a value, by the names of its class."""
    names = OPTIMIZERS[args.optimizer].options.split()
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def drop_checkpoints(args: argparse.Namespace) -> bool:
    """Takes back `--checkpoint_every` and `--resume auto`, which a shared file may hold, where nothing could be resumed."""
    if OPTIMIZERS[args.optimizer].resumes or not (args.checkpoint_every or args.resume):
        return False
    args.checkpoint_every = args.resume = None
    return True


def ignored_options(args: argparse.Namespace) -> list[str]:
    """Flags that were given although the chosen optimizer does not take them."""
    known = {name for choice in OPTIMIZERS.values() for name in choice.options.split()} - {"betas", "eps"}
    taken = OPTIMIZERS[args.optimizer].options.split()
    return sorted(name for name in known if name not in taken and getattr(args, name) is not None)
