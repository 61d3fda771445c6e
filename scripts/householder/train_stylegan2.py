# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,track]"]
# ///
"""Train StyleGAN2 from scratch: generator, discriminator and averaged generator in one folder.

Without a download, in some minutes on one core (scikit-learn's digits, or shapes drawn from known factors):

    accelerate launch scripts/householder/train_stylegan2.py --config scripts/householder/configs/digits.yaml
    accelerate launch scripts/householder/train_stylegan2.py --config scripts/householder/configs/shapes.yaml

On an image folder or a data set of the Hub, on all GPUs, with bfloat16 where it does no harm (the penalties stay in float32):

    accelerate launch --multi_gpu --mixed_precision bf16 scripts/householder/train_stylegan2.py \\
        --config scripts/householder/configs/afhq_512.yaml

`finetune_projector.py` puts Householder projectors into the result.
"""

import argparse
import time
from typing import TYPE_CHECKING, Any

from gan_checks import check_gan_options, check_model_options
from gan_options import CONFIGURED, add_data_options, add_loss_options, add_model_options, parse_gan_args


if TYPE_CHECKING:
    from gan_data import ImageRows
    from gan_run import GanRun

    from eigenhub.models.stylegan2 import StyleGAN2Networks


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    groups = (add_data_options, add_model_options, add_loss_options)
    checks = (check_model_options, check_gan_options)
    defaults = {"output_dir": "runs/stylegan2", "ema_rampup": 0.05}
    return parse_gan_args(argv, __doc__, "train_stylegan2.py", groups, checks, **defaults)


def main(argv: list[str] | None = None) -> tuple["GanRun", dict[str, Any]]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from gan_report import finish, summarise
    from gan_run import start, train

    started = time.perf_counter()
    run = prepare(args, start(args, project="stylegan2"))
    last_row = train(run)
    summary = summarise(run, last_row, time.perf_counter() - started)
    finish(run, summary, run.networks, method="stylegan2")
    return run, summary


def prepare(args: argparse.Namespace, accelerator: Any) -> "GanRun":
    """The run of a new pair."""
    from accelerate.utils import set_seed
    from gan_data import load_rows
    from gan_run import make_run

    with accelerator.main_process_first():  # the main process fills the caches that the others read
        rows = load_rows(args, args.image_size, args.img_channels, args.conditional)
    set_seed(args.seed)  # the same weights in every process
    return make_run(args, accelerator, rows, new_networks(args, rows))


def new_networks(args: argparse.Namespace, rows: "ImageRows") -> "StyleGAN2Networks":
    """A generator and a discriminator that have seen nothing yet."""
    from eigenhub.models.stylegan2 import (
        StyleGAN2Config,
        StyleGAN2Discriminator,
        StyleGAN2Generator,
        StyleGAN2Networks,
    )

    given = {name: getattr(args, name) for name in CONFIGURED if getattr(args, name) is not None}
    config = StyleGAN2Config(
        img_resolution=args.image_size,
        img_channels=rows.channels,
        c_dim=rows.classes if args.conditional else 0,
        **given,
    )
    return StyleGAN2Networks(generator=StyleGAN2Generator(config), discriminator=StyleGAN2Discriminator(config))


if __name__ == "__main__":
    main()
