# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,dp,track]"]
# ///
"""Train one LoRA adapter on the data of many clients: FedSVD and seven other methods, with or without privacy.

Without a download, in a minute (handwritten digits; the base model was pretrained on other digits, turned):

    accelerate launch scripts/fedsvd/train_fedsvd.py --config scripts/fedsvd/configs/digits.yaml
    accelerate launch scripts/fedsvd/train_fedsvd.py --config scripts/fedsvd/configs/digits_dp.yaml

The published runs on GLUE and SNLI with RoBERTa-large (any `--method` under the same settings):

    accelerate launch scripts/fedsvd/train_fedsvd.py --config scripts/fedsvd/configs/mnli.yaml
    accelerate launch scripts/fedsvd/train_fedsvd.py --config scripts/fedsvd/configs/mnli.yaml --dp --epsilon 6

Sentences on this machine, one table per split, with a small RoBERTa that is pretrained on rows which no client has:

    accelerate launch scripts/fedsvd/train_fedsvd.py --task sentences --dataset my/folder --eval_splits dev

A causal language model on instructions, on two GPUs (data-parallel inside a client):

    accelerate launch --config_file scripts/accelerate_configs/multi_gpu.yaml scripts/fedsvd/train_fedsvd.py \
        --config scripts/fedsvd/configs/mistral_7b_alpaca.yaml

Every round is saved; `--resume auto` goes on after the newest one. In `metrics.jsonl` a step is a round.
"""

import argparse
import json
import time
from typing import TYPE_CHECKING

from fedsvd_checks import SETTINGS_FILE, check_options, rounds_folder, run_settings
from fedsvd_options import (
    add_client_options,
    add_evaluation_options,
    add_federation_options,
    add_model_options,
    add_privacy_options,
    add_training_options,
    resolve,
)

from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.options import PLUMBING, make_parser


if TYPE_CHECKING:
    from accelerate import Accelerator

    from eigenhub.federated import FederatedLoraTrainer


#: Files that are pushed beside weights, configurations and card.
PUSHED = ("privacy_ledger.json", "tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    groups = (add_model_options, add_federation_options, add_client_options, add_privacy_options)
    for add_group in (*groups, add_training_options, add_evaluation_options):
        add_group(parser)
    supersedes = {"local_epochs": ("local_steps",), "epochs": ("local_steps",), "local_steps": ("local_epochs",)}
    args = parse_with_config(parser, argv, supersedes)
    args.command = as_command("accelerate launch scripts/fedsvd/train_fedsvd.py", parser, args, left_out=PLUMBING)
    try:
        resolve(args)
        check_options(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return args


def main(argv: list[str] | None = None) -> tuple["FederatedLoraTrainer", dict]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from accelerate.utils import set_seed
    from fedsvd_report import RoundLog, lines, summarise
    from fedsvd_setup import federated_config, make_trainer
    from fedsvd_tasks import load_task

    from eigenhub.federated import QuorumError
    from eigenhub.training.publish import create_repo
    from eigenhub.training.setup import make_accelerator

    started = time.perf_counter()
    config = federated_config(args)
    accelerator = make_accelerator(args, project="fedsvd")
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    with accelerator.main_process_first():  # the main process fills the caches that the others read
        set_seed(args.seed)  # a new head is the same everywhere
        task = load_task(args)
    set_seed(args.seed)  # A does not depend on how the model came
    trainer = make_trainer(args, accelerator, config, task, [RoundLog(args, accelerator)])
    accelerator.print(described(args, trainer))
    write_settings(args, accelerator)
    try:
        trainer.train(True if args.resume == "auto" else args.resume)
    except QuorumError as error:
        raise SystemExit(f"stopped: {error}; the rounds before are saved, go on with --resume auto") from error
    summary = summarise(args, accelerator, trainer, task, time.perf_counter() - started)
    accelerator.print("\n".join(lines(summary)))
    save(args, trainer, task, summary)
    accelerator.end_training()
    return trainer, summary


def described(args: argparse.Namespace, trainer: "FederatedLoraTrainer") -> str:
    """What is about to be trained, in one line."""
    from eigenhub.federated.sampling import clients_per_round

    sent = sum(trainer.server.state[key].numel() for key in trainer.server.upload_keys)
    asked = clients_per_round(len(trainer.clients), args.fraction)
    return (
        f"{args.method}: {asked} of {len(trainer.clients)} clients in each of {args.rounds} rounds, "
        f"each sends {sent:,} numbers"
    )


def write_settings(args: argparse.Namespace, accelerator: "Accelerator") -> None:
    """Puts the settings beside the rounds, where a continued run looks for them."""
    if accelerator.is_main_process:
        rounds_folder(args).mkdir(parents=True, exist_ok=True)
        text = json.dumps(run_settings(args), indent=2, sort_keys=True)
        (rounds_folder(args) / SETTINGS_FILE).write_text(text + "\n")
    accelerator.wait_for_everyone()


def save(args: argparse.Namespace, trainer: "FederatedLoraTrainer", task, summary: dict) -> None:
    """Writes adapter, ledger, summary, results and card; pushes if asked to."""
    trainer.save_pretrained(args.output_dir)
    if not trainer.training.accelerator.is_main_process:
        return
    from fedsvd_report import write_files

    write_files(args, task, summary)
    if args.push_to_hub:
        from eigenhub.training.publish import push_folder

        push_folder(args.output_dir, args.hub_model_id, also=PUSHED)


if __name__ == "__main__":
    main()
