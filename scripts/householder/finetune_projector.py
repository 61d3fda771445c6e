# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,track]"]
# ///
"""Put Householder projectors into a trained StyleGAN2 and fine-tune it briefly, or one of the controls (`--arm`).

After `train_stylegan2.py` with the same data, without a download:

    accelerate launch scripts/householder/finetune_projector.py \\
        --config scripts/householder/configs/digits_projector.yaml --model runs/stylegan2-digits

The published experiment, from NVIDIA's weights (a .pkl is read without running what it brings):

    accelerate launch scripts/householder/finetune_projector.py \\
        --config scripts/householder/configs/ffhq_256_projector.yaml --model stylegan2-ffhq-256x256.pkl

Controls at equal length: `--arm plain`, `--arm lowrank` (rank without orthogonality), `--arm random_init`, `--arm
hessian_penalty`, `--arm orojar`.
"""

import argparse
import time
from typing import TYPE_CHECKING, Any

from gan_checks import check_arm, check_gan_options, check_group
from gan_options import add_data_options, add_loss_options, add_start_options, parse_gan_args


if TYPE_CHECKING:
    from gan_run import GanRun


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    groups = (add_start_options, add_data_options, add_loss_options)
    checks = (check_arm, check_gan_options)
    defaults = {"output_dir": "runs/householder", "ema_rampup": 0.0}
    return parse_gan_args(argv, __doc__, "finetune_projector.py", groups, checks, **defaults)


def main(argv: list[str] | None = None) -> tuple["GanRun", dict[str, Any]]:
    """Fine-tunes, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from gan_arms import labelled_directions, without_free_factors
    from gan_report import METHOD, finish, summarise
    from gan_run import start, train

    started = time.perf_counter()
    run, names = prepare(args, start(args, project="householder"))
    last_row = train(run)
    networks = without_free_factors(run.networks)
    found = labelled_directions(args, networks.best_generator, names) if args.directions else None
    summary = summarise(run, last_row, time.perf_counter() - started, arm=args.arm, layers=names)
    finish(run, summary, networks, METHOD if args.arm == "projector" else args.arm, found)
    return run, summary


def prepare(args: argparse.Namespace, accelerator: Any) -> tuple["GanRun", list[str]]:
    """The run of an arm, and the names of the layers it concerns."""
    from accelerate.utils import set_seed
    from gan_arms import penalty_of, put_in, starting_networks, trained_groups
    from gan_data import load_rows
    from gan_run import make_run

    set_seed(args.seed)  # random frames and a new discriminator are the same in every process
    with accelerator.main_process_first():  # the main process fills the caches that the others read
        networks = starting_networks(args)
    generator = networks.best_generator
    config = generator.config
    check_group(args.per_device_batch_size, config.mbstd_group_size)
    names = put_in(args, generator)
    with accelerator.main_process_first():
        rows = load_rows(args, config.img_resolution, config.img_channels, labelled=config.c_dim > 0)
    if config.c_dim and rows.classes != config.c_dim:
        raise ValueError(f"the model knows {config.c_dim} classes, --dataset {args.dataset} has {rows.classes}")
    run = make_run(
        args,
        accelerator,
        rows,
        networks,
        groups=trained_groups(args, generator),
        penalty=penalty_of(args, generator),
        update_w_avg=args.train == "full",
    )
    return run, names


if __name__ == "__main__":
    main()
