# SPDX-License-Identifier: Apache-2.0
"""The options of `train_send.py`; the checks are in `send_checks.py`."""

import argparse

from eigenhub.training.options import EMBEDDED, FLAG, add_optimisation_options, positive_int


# The package's own tables import torch; a test holds these against them.
ARMS = ("send", "random", "dropout", "ema", "off")
SITES = ("hidden", "mlp", "update")
AGGREGATES = ("mean_of_scores", "score_of_mean")
INDEX_SPACES = ("site", "hidden")
#: Options of the script that are fields of `SenDConfig` under the same name.
SEND_FIELDS = tuple(
    """rho window refresh_every site layer aggregate index_space mask_in_eval rescale track_steps track_batch_size stop_loss
    stop_score dropout ema_decay blocks down_projection""".split()
)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model, and what of it is trained."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default=EMBEDDED, help="Hub id or folder; embedded (default): for the embedded facts"
    )
    group.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="float32", help="%(default)s"
    )
    group.add_argument("--freeze_layers", type=int, default=0, help="blocks from below; default: %(default)s")
    group.add_argument("--tuning", choices=("full", "lora"), default="full", help="default: %(default)s")
    group.add_argument("--r", "--rank", type=positive_int, default=16, help="lora; default: %(default)s")
    group.add_argument("--alpha", type=float, default=32.0, help="lora: the scale is alpha / r; default: %(default)s")
    group.add_argument("--lora_dropout", type=float, default=0.0, help="lora; default: %(default)s")
    group.add_argument("--target_modules", nargs="+", help="lora: names, or all-linear (default)")


def add_send_options(parser: argparse.ArgumentParser) -> None:
    """The arm, and how the protocol goes; by default as in the paper."""
    group = parser.add_argument_group("protocol")
    group.add_argument("--arm", choices=ARMS, default="send", help="send or a control; off tracks only; %(default)s")
    group.add_argument("--rho", type=float, default=0.2, help="share of the indices dropped; default: %(default)s")
    group.add_argument("--window", type=int, default=3, help="checkpoints looked back over; default: %(default)s")
    group.add_argument("--refresh_every", type=int, default=3, help="checkpoints per mask; default: %(default)s")
    group.add_argument("--site", choices=SITES, default="hidden", help="where to drop; default: %(default)s")
    group.add_argument("--layer", type=int, default=-2, help="block; default: the last but one")
    group.add_argument("--aggregate", choices=AGGREGATES, default="mean_of_scores", help="default: %(default)s")
    group.add_argument("--index_space", choices=INDEX_SPACES, default="site", help="hidden: as the authors' code, mlp")
    group.add_argument("--mask_in_eval", action=FLAG, default=False, help="drop in evaluations too")
    group.add_argument("--rescale", action=FLAG, default=False, help="scale up what is kept")
    group.add_argument("--track_fraction", type=float, default=0.1, help="share of the rows tracked; %(default)s")
    group.add_argument("--track_steps", type=positive_int, help="steps between checkpoints; default: an epoch")
    group.add_argument("--track_batch_size", type=positive_int, default=64, help="default: %(default)s")
    group.add_argument("--stop_loss", type=float, help="stop below this loss and --stop_score; default: never")
    group.add_argument("--stop_score", type=float, help="mean EigenScore of --score_prompts to stop below")
    group.add_argument("--dropout", type=float, default=0.1, help="rate of --arm dropout; default: %(default)s")
    group.add_argument("--ema_decay", type=float, default=0.95, help="of --arm ema; default: %(default)s")
    group.add_argument("--blocks", help="dotted name of the list of blocks, where it is not found")
    group.add_argument("--down_projection", help="name in a block for --site mlp, where it is not found")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """The shared options of optimisation with the authors' defaults, and how much data."""
    add_optimisation_options(parser, lr=1e-4)
    parser.set_defaults(lr_scheduler="constant", warmup=0.0, weight_decay=0.01, epochs=4.0)
    group = parser.add_argument_group("how much")
    group.add_argument("--max_samples", type=positive_int, help="only the first rows; default: all")
    group.add_argument("--test_fraction", type=float, default=0.1, help="held out without --eval_split; %(default)s")
    group.add_argument("--world_seed", type=int, default=0, help="which world of facts; default: %(default)s")


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """What is measured on the way and at the end."""
    group = parser.add_argument_group("evaluation")
    group.add_argument("--eval_dataset", help="held-out texts, like --dataset; default: --dataset")
    group.add_argument("--eval_split", help="of it; default: test, or without --eval_dataset a part cut from the data")
    group.add_argument("--eval_every", type=positive_int, help="steps between evaluations; default: an epoch")
    group.add_argument("--eval_batch_size", type=positive_int, default=64, help="default: %(default)s")
    group.add_argument("--eval_samples", type=positive_int, help="only the first held-out rows; default: all")
    group.add_argument("--score_prompts", type=int, default=0, help="prompts to score each time; default: %(default)s")
    group.add_argument("--num_samples", type=int, default=10, help="answers per scored prompt; default: %(default)s")
    group.add_argument("--temperature", type=float, default=0.5, help="of these answers; default: %(default)s")
    group.add_argument("--max_new_tokens", type=positive_int, default=8, help="longest answer; default: %(default)s")
