# SPDX-License-Identifier: Apache-2.0
"""The options of `train_bt2.py` and the checks that need no model."""

import argparse
from pathlib import Path

from eigenhub.training.options import (
    EMBEDDED,
    FLAG,
    add_optimisation_options,
    add_run_options,
    check_range,
    check_run_options,
    positive_int,
)
from eigenhub.training.text_source import check_source


METHODS = ("bt2", "independent", "bct", "oca")
#: What is left at None by the user and differs between the methods.
DEFAULTS = {
    "bt2": {"label_smoothing": 0.0, "classification_weight": 1.0, "influence_weight": 10.0, "old_match_weight": 5.0},
    "independent": {"label_smoothing": 0.1, "classification_weight": 1.0},
    "bct": {"label_smoothing": 0.1, "classification_weight": 1.0, "influence_weight": 10.0},
    "oca": {
        "label_smoothing": 0.1,
        "classification_weight": 5.0,
        "influence_weight": 10.0,
        "prototype_weight": 5.0,
    },
}
BT2_ONLY = ("basis_rank", "new_teacher_weight", "old_match_weight")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """What is trained, over which backbone, and from which teachers."""
    group = parser.add_argument_group("what")
    group.add_argument("--method", choices=METHODS, default="bt2", help="default: %(default)s")
    group.add_argument("--backbone", default=EMBEDDED, help="Hub id or folder of any image model; embedded (default)")
    group.add_argument("--from_scratch", action=FLAG, default=False, help="of the backbone only the architecture")
    group.add_argument("--pooling", choices=("pooler", "mean", "cls"), default="pooler", help="default: %(default)s")
    group.add_argument("--freeze_backbone", action=FLAG, default=False, help="train the head alone")
    group.add_argument("--embedding_dim", type=positive_int, help="default: the new model's (bt2), else the old one's")
    group.add_argument("--added_dim", type=int, default=32, help="bt2: k; oca: beyond the old one's; %(default)s")
    group.add_argument("--scale", type=float, default=2.0, help="bt2: C; default: %(default)s")
    group.add_argument("--added", choices=("normalized", "linear"), default="normalized", help="bt2: %(default)s")
    group.add_argument("--basis_rank", type=positive_int, help="bt2: low-rank changes of basis; default: dense")
    group.add_argument("--init", choices=("procrustes", "random"), default="procrustes", help="bt2: %(default)s")
    group.add_argument("--warm_start", action=FLAG, help="start from the new model; default: bt2 if it fits, else no")
    group.add_argument("--save_classifier", action=FLAG, default=True, help="keep the class vectors in the model")
    group = parser.add_argument_group("teachers")
    group.add_argument("--old_model", help="folder or Hub id; embedded with the embedded data")
    group.add_argument("--new_model", help="the independently trained new model, likewise")
    group.add_argument("--old_vectors", type=Path, help="file of old vectors by item id instead of --old_model")
    group.add_argument("--new_vectors", type=Path, help="bt2: file of new vectors instead of --new_model")
    group.add_argument(
        "--teacher_view", choices=("eval", "same"), default="eval", help="cached, or of each augmented view"
    )


def add_loss_options(parser: argparse.ArgumentParser) -> None:
    """Weights of the terms; by default those of the papers."""
    group = parser.add_argument_group("loss")
    group.add_argument("--classification_weight", type=float, help="default: 1, oca: 5")
    group.add_argument("--new_teacher_weight", type=float, default=1.0, help="bt2; default: %(default)s")
    group.add_argument("--influence_weight", type=float, help="default: 10")
    group.add_argument("--old_match_weight", type=float, help="bt2; default: 5")
    group.add_argument("--prototype_weight", type=float, help="oca; default: 5")
    group.add_argument("--label_smoothing", type=float, help="default: 0 for bt2, else 0.1")
    group.add_argument("--logit_scale", type=float, help="factor on the logits; default: 1, embedded data: 10")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Images, their labels and ids, and how they are shown."""
    group = parser.add_argument_group("images")
    group.add_argument("--dataset", default=EMBEDDED, help="Hub id or folder; embedded (default): glyphs, drawn here")
    group.add_argument("--dataset_config", help="configuration of a data set on the Hub")
    group.add_argument("--dataset_split", default="train", help="default: %(default)s")
    group.add_argument("--eval_split", default="test", help="queries and gallery; default: %(default)s")
    group.add_argument("--image_column", default="image", help="default: %(default)s")
    group.add_argument("--label_column", default="label", help="default: %(default)s")
    group.add_argument("--id_column", help="stable ids; default: split and row number")
    group.add_argument("--num_classes", type=positive_int, help="train on the first classes only")
    group.add_argument("--image_size", type=positive_int, default=224, help="default: %(default)s")
    group.add_argument("--augment", choices=("none", "flip", "crop"), default="none", help="crop: with flips")
    group.add_argument("--workers", type=int, default=0, help="processes that read images; default: %(default)s")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Optimizer and run, shared with the other scripts but for the head's step size."""
    add_optimisation_options(parser, lr=1e-3)
    group = parser.add_argument_group("head")
    group.add_argument("--head_lr", type=float, help="of everything that is not the backbone; default: --lr")
    group.add_argument("--optimizer", choices=("adamw", "adam"), default="adamw", help="adam: coupled weight decay")
    group.add_argument("--eval_batch_size", type=positive_int, default=256, help="default: %(default)s")
    add_run_options(parser, output_dir="runs/bt2")


def resolve(args: argparse.Namespace) -> None:
    """Fills in what depends on the method and on the data."""
    for name, value in DEFAULTS[args.method].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.logit_scale is None:
        args.logit_scale = 10.0 if args.dataset == EMBEDDED else 1.0
    if args.head_lr is None:
        args.head_lr = args.lr
    if args.dataset == EMBEDDED:
        for teacher in needed_teachers(args):
            if getattr(args, f"{teacher}_model") is None and getattr(args, f"{teacher}_vectors") is None:
                setattr(args, f"{teacher}_model", EMBEDDED)


def needed_teachers(args: argparse.Namespace) -> tuple[str, ...]:
    """Which models the method learns from."""
    return {"bt2": ("old", "new"), "independent": ()}.get(args.method, ("old",))


def check_options(args: argparse.Namespace) -> None:
    """Raises for whatever can be known to fail before a model is loaded."""
    check_range(args, ("lr", "epochs", "scale", "logit_scale", "head_lr"), above=True)
    weights = (
        "classification_weight",
        "new_teacher_weight",
        "influence_weight",
        "old_match_weight",
        "prototype_weight",
    )
    check_range(args, ("warmup", "weight_decay", "max_grad_norm", "added_dim", "workers", *weights))
    if args.label_smoothing is not None and not 0 <= args.label_smoothing < 1:
        raise ValueError(f"--label_smoothing must be in [0, 1), got {args.label_smoothing}")
    if args.dataset != EMBEDDED:
        check_source(args.dataset)
        if args.backbone == EMBEDDED:
            raise ValueError("--backbone embedded is for --dataset embedded: name a model of the Hub or a folder")
    elif args.augment != "none":
        raise ValueError("--augment is for images from a data set: the embedded ones are distorted already")
    _check_teachers(args)
    check_run_options(args)


def _check_teachers(args: argparse.Namespace) -> None:
    needed = needed_teachers(args)
    for teacher in ("old", "new"):
        model, vectors = getattr(args, f"{teacher}_model"), getattr(args, f"{teacher}_vectors")
        if model and vectors:
            raise ValueError(f"--{teacher}_model and --{teacher}_vectors exclude each other")
        if teacher in needed and not (model or vectors or args.dataset == EMBEDDED):
            raise ValueError(f"--method {args.method} needs --{teacher}_model or --{teacher}_vectors")
        if vectors and args.teacher_view == "same":
            raise ValueError(f"--teacher_view same needs --{teacher}_model: a file knows one view only")
        if vectors and not vectors.is_file():
            raise FileNotFoundError(f"--{teacher}_vectors: no such file: {vectors}")
        if model and model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
            raise FileNotFoundError(f"--{teacher}_model: no such folder: {model}")
        if model == EMBEDDED and args.dataset != EMBEDDED:
            raise ValueError(f"--{teacher}_model embedded is for --dataset embedded")
    if args.backbone.startswith((".", "/", "~")) and not Path(args.backbone).expanduser().is_dir():
        raise FileNotFoundError(f"--backbone: no such folder: {args.backbone}")


def ignored_options(args: argparse.Namespace) -> list[str]:
    """Options that were given and that the method does not know."""
    return [name for name in BT2_ONLY if args.method != "bt2" and getattr(args, name) not in (None, 1.0)]
