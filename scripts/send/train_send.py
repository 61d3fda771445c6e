# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,track]"]
# ///
"""Train a language model further with Sensitivity Dropout (SenD), or with a control under the same loop.

Without a download, in a minute (a small model learns new facts; every hallucination is counted):

    accelerate launch scripts/send/train_send.py --config scripts/send/configs/facts.yaml
    accelerate launch scripts/send/train_send.py --config scripts/send/configs/facts.yaml --arm off --output_dir runs/off

The published runs on texts of the Hub, each with any `--arm` (send, random, dropout, ema, off), full or with LoRA:

    accelerate launch --mixed_precision bf16 scripts/send/train_send.py --config scripts/send/configs/pythia_1b_medhalt.yaml
    accelerate launch --config_file scripts/accelerate_configs/fsdp2.yaml scripts/send/train_send.py \
        --config scripts/send/configs/llama_8b_medhalt.yaml

The facts with any model of the Hub, told in its own tokens:

    accelerate launch scripts/send/train_send.py --model EleutherAI/pythia-70m --lr 1e-4 --epochs 8

All arms train on the same rows: the tracked ones are set aside in each. `metrics.jsonl` has a row per step,
`evaluations.jsonl` one per evaluation, by default at the end of each epoch.
"""

import argparse
import time
from typing import TYPE_CHECKING

from send_checks import check_arguments, resolve_resume
from send_options import add_evaluation_options, add_model_options, add_send_options, add_training_options

from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.options import PLUMBING, add_run_options, add_text_options, check_options, make_parser


if TYPE_CHECKING:
    from eigenhub.training.send import SenDTrainer


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_model_options(parser)
    add_send_options(parser)
    add_text_options(parser)
    add_training_options(parser)
    add_evaluation_options(parser)
    add_run_options(parser, output_dir="runs/send")
    args = parse_with_config(parser, argv, supersedes={"epochs": ("max_steps",)})
    args.command = as_command("accelerate launch scripts/send/train_send.py", parser, args, left_out=PLUMBING)
    try:
        resolve_resume(args)
        check_options(args)
        check_arguments(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return args


def main(argv: list[str] | None = None) -> tuple["SenDTrainer", dict]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from accelerate.utils import set_seed
    from send_report import described, save, summarise
    from send_setup import make_trainer
    from send_tasks import load_task

    from eigenhub.training.publish import create_repo
    from eigenhub.training.setup import make_accelerator

    started = time.perf_counter()
    accelerator = make_accelerator(args, project="send")
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    with accelerator.main_process_first():  # the main process fills the caches that the others read
        set_seed(args.seed)
        task = load_task(args)
    set_seed(args.seed)  # here: an adapter does not depend on how the model came
    trainer, evaluations = make_trainer(args, accelerator, task)
    accelerator.print(described(args, trainer, task))
    trainer.train(args.resume)
    summary = summarise(args, accelerator, trainer, task, evaluations.rows, time.perf_counter() - started)
    save(args, trainer, task, summary)
    accelerator.end_training()
    return trainer, summary


if __name__ == "__main__":
    main()
