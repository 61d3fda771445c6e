# SPDX-License-Identifier: Apache-2.0
"""The options of `train_stylegan2.py` and `finetune_projector.py`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.options import FLAG, PLUMBING, add_run_options, make_parser, positive_int


EMBEDDED_DATA = ("digits", "shapes")
FEATURES = ("none", "embedded", "inception")
#: What goes into the configuration as it is; without a flag it keeps its own default.
CONFIGURED = (
    *("z_dim", "w_dim", "channel_base", "channel_max", "mapping_layers", "mapping_lr_multiplier", "w_avg_beta"),
    *("conv_clamp", "num_fp16_res", "mbstd_group_size", "mbstd_channels"),
)
ARMS = ("projector", "plain", "lowrank", "random_init", "hessian_penalty", "orojar")
PROJECTED = ("projector", "random_init")
REPLACED = (*PROJECTED, "lowrank")
PENALISED = ("hessian_penalty", "orojar")
CHECKPOINTS = (".pkl", ".pt", ".pth")
BASES = ("parameter", "svd", "sefa", "jacobian")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Which images, and in which form."""
    group = parser.add_argument_group("images")
    group.add_argument(
        "--dataset",
        default="digits",
        help="digits (of scikit-learn), shapes (drawn here), an image folder, or a Hub id; default: %(default)s",
    )
    group.add_argument("--dataset_config", help="configuration of a data set on the Hub")
    group.add_argument("--dataset_split", default="train", help="default: %(default)s")
    group.add_argument("--image_column", default="image", help="default: %(default)s")
    group.add_argument("--label_column", default="label", help="for --conditional; default: %(default)s")
    group.add_argument("--num_images", type=positive_int, help="only the first ones; of shapes: how many, 20000")
    group.add_argument("--flip", action=FLAG, default=False, help="mirror half of the images")
    group.add_argument("--workers", type=int, default=0, help="processes that read images; default: %(default)s")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The architecture of a new pair."""
    group = parser.add_argument_group("model (without a flag: the default of StyleGAN2Config)")
    group.add_argument("--image_size", type=positive_int, default=32, help="a power of two; default: %(default)s")
    group.add_argument("--img_channels", type=int, choices=(1, 3, 4), help="default: 1 for digits, else 3")
    group.add_argument("--conditional", action=FLAG, default=False, help="on the labels of the data")
    for name in ("z_dim", "w_dim", "channel_base", "channel_max", "mapping_layers", "mbstd_group_size"):
        group.add_argument(f"--{name}", type=positive_int)
    group.add_argument("--mbstd_channels", type=int, help="0: none")
    group.add_argument("--mapping_lr_multiplier", type=float)
    group.add_argument("--w_avg_beta", type=float)
    group.add_argument("--num_fp16_res", type=int, help="highest resolutions in float16 on a GPU; 4 is usual")
    group.add_argument("--conv_clamp", type=float, help="bound on activations; 256 with --num_fp16_res")


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """What is fine-tuned, and what is put into it."""
    group = parser.add_argument_group("start")
    group.add_argument(
        "--model", required=True, help="folder or Hub id with a discriminator/, or a .pkl or .pt of another code"
    )
    group.add_argument(
        "--start_from", choices=("ema", "raw"), default="ema", help="averaged or last weights; default: %(default)s"
    )
    group.add_argument("--new_discriminator", action=FLAG, default=False, help="where the model has none")
    group = parser.add_argument_group("arm")
    group.add_argument(
        "--arm",
        choices=ARMS,
        default="projector",
        help="Householder projectors, or a control: plain fine-tuning, rank without orthogonality, projectors from a random "
        "start, or a penalty in the loss of the generator; default: %(default)s",
    )
    group.add_argument(
        "--train", choices=("full", "projector"), default="full", help="everything, or the factors alone; %(default)s"
    )
    group.add_argument("--layers", nargs="+", default=["upsample"], help="upsample, all, or names; default: upsample")
    group.add_argument("--rank", type=positive_int, default=10, help="directions per layer; default: %(default)s")
    group.add_argument("--gain", default="mean", help="mean, unit, equalized or a number; default: %(default)s")
    group.add_argument(
        "--parameterization", choices=("thin", "dense"), default="thin", help="of the frames; default: %(default)s"
    )
    group.add_argument("--singular_values", choices=("fixed", "learned"), default="fixed", help="default: %(default)s")
    group.add_argument(
        "--lr_ortho", type=float, default=0.002, help="learning rate of the factors; default: %(default)s"
    )
    group.add_argument("--penalty_weight", type=float, default=0.1, help="of a penalty; default: %(default)s")
    group.add_argument("--penalty_eps", type=float, default=1.0, help="its step in z; default: %(default)s")
    group.add_argument(
        "--directions", choices=BASES, help="save the directions of the layers in this basis; default: do not"
    )


def add_loss_options(parser: argparse.ArgumentParser) -> None:
    """Regularisers, style mixing, augmentation, average; defaults of the official StyleGAN2 runs."""
    group = parser.add_argument_group("losses")
    group.add_argument("--r1_gamma", type=float, default=10.0, help="0: none; default: %(default)s")
    group.add_argument("--r1_every", type=positive_int, default=16, help="steps; default: %(default)s")
    group.add_argument("--pl_weight", type=float, default=2.0, help="path length; 0: none; default: %(default)s")
    group.add_argument("--pl_every", type=positive_int, default=4, help="steps; default: %(default)s")
    group.add_argument("--pl_batch_shrink", type=positive_int, default=2, help="default: %(default)s")
    group.add_argument("--mixing", type=float, default=0.9, help="probability of style mixing; default: %(default)s")
    group = parser.add_argument_group("augmentation of what the discriminator sees")
    group.add_argument("--ada", action=FLAG, default=False, help="as strong as the discriminator's overfitting asks")
    group.add_argument("--ada_p", type=float, default=0.0, help="strength at the start; default: %(default)s")
    group.add_argument("--ada_fixed", action=FLAG, default=False, help="--ada_p all the time")
    group.add_argument("--ada_target", type=float, default=0.6, help="mean sign of D(real); default: %(default)s")
    group.add_argument("--ada_kimg", type=float, default=500.0, help="from 0 to 1; default: %(default)s")
    group.add_argument("--ada_every", type=positive_int, default=4, help="steps; default: %(default)s")


def add_training_options(parser: argparse.ArgumentParser, output_dir: str, ema_rampup: float) -> None:
    """Optimisers, batches, average of the generator, evaluation, results."""
    group = parser.add_argument_group("optimisation")
    group.add_argument("--lr", type=float, default=0.002, help="Adam, corrected for lazy terms; default: %(default)s")
    group.add_argument("--discriminator_lr", type=float, help="default: --lr")
    group.add_argument("--beta1", type=float, default=0.0, help="default: %(default)s")
    group.add_argument("--beta2", type=float, default=0.99, help="default: %(default)s")
    group.add_argument("--per_device_batch_size", type=positive_int, default=8, help="default: %(default)s")
    group.add_argument("--gradient_accumulation_steps", type=positive_int, default=1, help="default: %(default)s")
    group.add_argument("--max_steps", type=positive_int, default=10_000, help="default: %(default)s")
    group.add_argument("--ema_kimg", type=float, default=10.0, help="half-life of the average; default: %(default)s")
    group.add_argument(
        "--ema_rampup", type=float, default=ema_rampup, help="at most this share of what was seen; %(default)s"
    )
    group.add_argument("--tf32", action=FLAG, default=False, help="TF32 matrix products on CUDA")
    group.add_argument("--seed", type=int, default=42, help="default: %(default)s")
    group = parser.add_argument_group("evaluation")
    group.add_argument("--eval_every", type=positive_int, help="steps between image grids (and distances); at the end")
    group.add_argument(
        "--eval_features",
        choices=FEATURES,
        default="none",
        help="Frechet distance in features of a small network trained on the embedded data, or of Inception (FID)",
    )
    group.add_argument("--eval_samples", type=positive_int, default=50_000, help="images of it; default: %(default)s")
    group.add_argument("--eval_batch_size", type=positive_int, default=32, help="default: %(default)s")
    group.add_argument("--inception_weights", type=Path, help="file of torch-fidelity's weights; default: download")
    group.add_argument("--grid", type=positive_int, default=8, help="images per row and column; default: %(default)s")
    add_run_options(parser, output_dir=output_dir)
    parser.add_argument("--license", default="apache-2.0", help="of the weights, for the card; default: %(default)s")


def parse_gan_args(
    argv: list[str] | None,
    description: str | None,
    script: str,
    groups: tuple[Callable[[argparse.ArgumentParser], None], ...],
    checks: tuple[Callable[[argparse.Namespace], None], ...],
    **defaults: Any,
) -> argparse.Namespace:
    """The arguments of a script, checked, with the command that repeats the run.

    Args:
        argv (`list[str]`, *optional*): flags; defaults to those of the process.
        description (`str`, *optional*): docstring of the script.
        script (`str`): its file name.
        groups (`tuple`): add its options beside those of the training.
        checks (`tuple`): raise `ValueError` or `OSError` for what cannot be.
        defaults (`Any`): of [`add_training_options`].
    """
    parser = make_parser(description)
    for add_group in groups:
        add_group(parser)
    add_training_options(parser, **defaults)
    args = parse_with_config(parser, argv)
    args.command = as_command(f"accelerate launch scripts/householder/{script}", parser, args, PLUMBING)
    try:
        for check in checks:
            check(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return args
