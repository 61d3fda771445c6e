# SPDX-License-Identifier: Apache-2.0
"""The options of `train_fedsvd.py` and what each task sets of them; the checks are in `fedsvd_checks.py`."""

import argparse
from typing import Any

from eigenhub.training.options import (
    EMBEDDED,
    FLAG,
    add_optimisation_options,
    add_run_options,
    add_text_options,
    positive_int,
)


# The package's own tables import torch; a test holds these against them.
METHODS = ("fedsvd", "ffa", "ffa_orth", "fedavg", "fedex", "flexlora", "flora", "rolora")
B_ONLY = ("fedsvd", "ffa", "ffa_orth")
MOVE_BASE = ("fedex", "flora")
PARTITIONS = ("iid", "dirichlet", "shard", "natural_id")
SIGN_RULES = ("largest_positive", "none")
ACCOUNTANTS = ("prv", "rdp")
GRAD_SAMPLE_MODES = ("hooks", "ghost")
#: Options that mean nothing without `--dp`; given without it they would look like privacy.
PRIVATE_ONLY = tuple(
    """epsilon delta noise_multiplier dp_max_grad_norm accountant max_participations grad_sample_mode
    physical_batch_size private_metrics""".split()
)

ROBERTA = "FacebookAI/roberta-large"
GLUE = "nyu-mll/glue"
_SENTENCES: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 0.5,
    "partition": "dirichlet",
    "clients": 6,
    "fraction": 0.5,
    "rounds": 100,
    "label_column": "label",
    "dropout": 0.05,
    "per_device_batch_size": 32,
    "gradient_accumulation_steps": 1,
}
_PUBLISHED = _SENTENCES | {
    "model": ROBERTA,
    "dataset": GLUE,
    "per_device_batch_size": 64,
    "gradient_accumulation_steps": 2,
}
#: What a task sets where the user has not; those of the published tasks are the paper's.
TASKS: dict[str, dict[str, Any]] = {
    "digits": _SENTENCES | {"model": EMBEDDED, "dataset": EMBEDDED, "rounds": 20, "dropout": 0.0},
    "sst2": _PUBLISHED | {"dataset_config": "sst2", "sentence_columns": ["sentence"], "eval_splits": ["validation"]},
    "mnli": _PUBLISHED
    | {
        "dataset_config": "mnli",
        "sentence_columns": ["premise", "hypothesis"],
        "eval_splits": ["validation_matched", "validation_mismatched"],
    },
    "qnli": _PUBLISHED
    | {"dataset_config": "qnli", "sentence_columns": ["question", "sentence"], "eval_splits": ["validation"]},
    "qqp": _PUBLISHED
    | {"dataset_config": "qqp", "sentence_columns": ["question1", "question2"], "eval_splits": ["validation"]},
    "snli": _PUBLISHED
    | {"dataset": "stanfordnlp/snli", "sentence_columns": ["premise", "hypothesis"], "eval_splits": ["test"]},
    "sentences": _SENTENCES | {"model": EMBEDDED, "sentence_columns": ["sentence"]},
    "causal_lm": {
        "model": EMBEDDED,
        "dataset": EMBEDDED,
        "optimizer": "adamw",
        "lr": 2e-4,
        "partition": "iid",
        "clients": 20,
        "fraction": 0.1,
        "rounds": 100,
        "dropout": 0.0,
        "per_device_batch_size": 8,
        "gradient_accumulation_steps": 1,
    },
}
SENTENCE_TASKS = tuple(name for name in TASKS if name not in ("digits", "causal_lm"))
_PRIVATE_DEFAULTS = {
    "epsilon": 6.0,
    "delta": 1e-5,
    "dp_max_grad_norm": 2.0,
    "accountant": "prv",
    "grad_sample_mode": "hooks",
    "private_metrics": False,
}


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The task, the base model and its adapter."""
    group = parser.add_argument_group("what")
    group.add_argument("--task", choices=tuple(TASKS), default="digits", help="default: %(default)s")
    group.add_argument("--method", choices=METHODS, default="fedsvd", help="default: %(default)s")
    group.add_argument("--model", help="Hub id, folder or `embedded`; default: that of the task")
    group.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="of the base"
    )
    group.add_argument("--load_in_4bit", action=FLAG, default=False, help="causal_lm: NF4 base by bitsandbytes")
    group = parser.add_argument_group("adapter")
    group.add_argument(
        "--r", "--rank", type=positive_int, default=8, help="default: %(default)s (torchrun needs --rank)"
    )
    group.add_argument("--alpha", type=float, help="the scale is alpha / r; default: scale 1")
    group.add_argument("--dropout", type=float, help="default: 0.05 for sentences, else 0")
    group.add_argument(
        "--target_modules", nargs="+", help="names, or all-linear; default: query and value projections"
    )
    group.add_argument("--rslora", action=FLAG, default=False, help="the scale is alpha / sqrt(r)")
    group.add_argument(
        "--client_ranks", nargs="+", help="ranks of the clients in their order, or NAME=RANK for some of them"
    )


def add_federation_options(parser: argparse.ArgumentParser) -> None:
    """Rounds, clients, what the server does."""
    group = parser.add_argument_group("rounds")
    group.add_argument("--fraction", type=float, help="share of clients in a round; default: 0.5, causal_lm 0.1")
    group.add_argument("--local_steps", type=positive_int, help="optimizer steps of a client per round; default: 10")
    group.add_argument("--min_clients", type=positive_int, default=1, help="quorum of a round; default: %(default)s")
    group.add_argument(
        "--client_sampling", choices=("uniform", "balanced"), help="default: uniform, under --dp balanced"
    )
    group.add_argument("--weighting", choices=("num_examples", "uniform"), help="default: num_examples, --dp: uniform")
    group = parser.add_argument_group("server")
    group.add_argument("--init_A", choices=("keep", "orthonormal"), default="keep", help="default: %(default)s")
    group.add_argument("--refactor_every", type=positive_int, default=1, help="rounds; default: %(default)s")
    group.add_argument("--refactor_warmup", type=int, default=0, help="rounds before the first; default: %(default)s")
    group.add_argument("--sign_rule", choices=SIGN_RULES, default=SIGN_RULES[0], help="default: %(default)s")
    group.add_argument("--downlink", choices=("full", "rotation"), default="full", help="default: %(default)s")
    group.add_argument("--train_head", action=FLAG, default=False, help="also train and average the classifier")


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """Who has which rows."""
    group = parser.add_argument_group("clients")
    group.add_argument("--clients", type=positive_int, help="how many; default: 6, causal_lm 20")
    group.add_argument("--partition", choices=PARTITIONS, help="default: dirichlet, causal_lm iid")
    group.add_argument("--dirichlet_alpha", type=float, default=0.5, help="default: %(default)s")
    group.add_argument("--min_client_size", type=positive_int, default=10, help="dirichlet; default: %(default)s")
    group.add_argument("--shards_per_client", type=positive_int, default=2, help="shard; default: %(default)s")
    group.add_argument("--client_column", help="natural_id: column that says whose a row is")
    group.add_argument("--label_column", help="classes; sentences: default label, causal_lm: for dirichlet and shard")
    group.add_argument(
        "--public_share",
        type=float,
        help="share of the rows that no client gets: the embedded language models are pretrained on them; "
        "default: 0.5 where one is pretrained, else 0",
    )


def add_privacy_options(parser: argparse.ArgumentParser) -> None:
    """Differential privacy of the examples of each client."""
    group = parser.add_argument_group("differential privacy")
    group.add_argument("--dp", action=FLAG, default=False, help="train by DP-SGD; the options below need it")
    group.add_argument("--epsilon", type=float, help="of each client over all rounds; default: 6")
    group.add_argument("--delta", type=float, help="default: 1e-5")
    group.add_argument("--noise_multiplier", type=float, help="default: the least that keeps epsilon")
    group.add_argument("--dp_max_grad_norm", type=float, help="clipping norm of an example's gradient; default: 2")
    group.add_argument("--accountant", choices=ACCOUNTANTS, help="default: prv")
    group.add_argument(
        "--max_participations", type=positive_int, help="rounds of a client, a hard cap; default: planned"
    )
    group.add_argument("--grad_sample_mode", choices=GRAD_SAMPLE_MODES, help="default: hooks")
    group.add_argument("--physical_batch_size", type=positive_int, help="most examples in memory at once")
    group.add_argument(
        "--private_metrics", action=FLAG, help="let losses on private rows out, unprotected; default: not"
    )


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """What is measured, on which rows, how often."""
    group = parser.add_argument_group("evaluation")
    group.add_argument("--eval_every", type=positive_int, default=1, help="rounds; default: %(default)s")
    group.add_argument("--eval_dataset", help="Hub id or file; default: --dataset")
    group.add_argument("--eval_splits", nargs="+", help="the first is evaluated in the rounds, all at the end")
    group.add_argument("--eval_samples", type=positive_int, help="only the first ones of each split")
    group.add_argument(
        "--aggregation_error", action=FLAG, default=False, help="how far mean factors are from the mean product"
    )
    group.add_argument("--eval_batch_size", type=positive_int, default=64, help="default: %(default)s")
    group.add_argument(
        "--client_eval_share", type=float, default=0.0, help="of each client's rows, held out; default: %(default)s"
    )
    group.add_argument("--client_eval_every", type=positive_int, help="rounds; default: at the end only")
    group.add_argument(
        "--personalized_steps", type=positive_int, help="at the end also after so many steps of each client on its own"
    )


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """The shared groups, where a step of a run is a round and an epoch one of a client within it."""
    add_text_options(parser)
    parser.set_defaults(dataset=None, max_length=None)
    group = parser.add_argument_group("sentences and instructions")
    group.add_argument(
        "--sentence_columns", nargs="+", help="sentences: one column, or two for pairs; default: sentence"
    )
    group.add_argument("--column_names", nargs="+", help="sentences: names for a file without a line of names")
    group.add_argument("--input_column", help="causal_lm: goes below the prompt where it is not empty, as in Alpaca")
    add_optimisation_options(parser)
    parser.set_defaults(lr_scheduler="constant", warmup=0.0)
    add_run_options(parser, output_dir="runs/fedsvd")
    group = parser.add_argument_group("rounds in place of steps", conflict_handler="resolve")
    group.add_argument("--lr", type=float, help="peak learning rate over the rounds; default: 0.5, causal_lm 2e-4")
    group.add_argument(
        "--optimizer", choices=("sgd", "adamw"), help="new in each round; default: sgd, causal_lm adamw"
    )
    group.add_argument("--per_device_batch_size", type=positive_int, help="default: 32, GLUE and SNLI 64, causal_lm 8")
    group.add_argument(
        "--gradient_accumulation_steps", type=positive_int, help="default: 1, GLUE and SNLI 2 as published"
    )
    group.add_argument("--rounds", "--max_steps", type=positive_int, help="default: 100, digits 20")
    group.add_argument(
        "--local_epochs", "--epochs", type=float, help="passes of a client per round; not --local_steps"
    )
    group.add_argument(
        "--warmup", type=float, default=0.0, help="rounds, or below 1 their share; default: %(default)s"
    )
    group.add_argument("--checkpoint_every", type=positive_int, default=1, help="rounds; default: %(default)s")
    group.add_argument("--logging_steps", type=positive_int, default=1, help="rounds; default: %(default)s")


def resolve(args: argparse.Namespace) -> None:
    """Fills in what depends on the task, on privacy and on the partition."""
    task = TASKS[args.task]
    for name, value in task.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.max_length is None:
        args.max_length = 512 if args.task == "causal_lm" else 64 if args.model == EMBEDDED else 128
    if args.alpha is None:
        args.alpha = float(args.r)
    if args.local_steps is None and args.local_epochs is None:
        args.local_steps = 10
    if args.public_share is None:
        args.public_share = 0.5 if pretrains(args) else 0.0
    for name, value in _PRIVATE_DEFAULTS.items():
        if args.dp and getattr(args, name) is None:
            setattr(args, name, value)


def pretrains(args: argparse.Namespace) -> bool:
    """Whether the embedded model is pretrained on text of the data set."""
    if args.task == "causal_lm":
        return args.model == EMBEDDED and args.dataset != EMBEDDED
    return args.task in SENTENCE_TASKS and args.model == EMBEDDED
