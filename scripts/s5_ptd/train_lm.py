# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[demo,track]"]
# ///
r"""Train S5, S5-PTD, S4D or S4-PTD as a language model: linear cost in the length of a text, a state of constant size.

Without a download, in half a minute (bytes of the sources of Python's standard library):

    accelerate launch scripts/s5_ptd/train_lm.py --config scripts/s5_ptd/configs/lm_bytes.yaml

On tokens of a text from the Hub, stopped and continued at will:

    accelerate launch --mixed_precision bf16 scripts/s5_ptd/train_lm.py --tokenizer openai-community/gpt2 \
        --dataset Salesforce/wikitext --dataset_config wikitext-103-raw-v1 --eval_split validation --max_length 2048 \
        --hidden_size 768 --num_hidden_layers 12 --state_size 768 --num_blocks 12 --lr 1e-3 --resume auto

State space parameters learn at `--ssm_lr`, everything else at `--lr`; see `s5_param_groups` and `s4d_param_groups`.
"""

import argparse
from typing import TYPE_CHECKING

from lra_options import add_model_options, ignored_options

from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.options import (
    FLAG,
    PLUMBING,
    add_held_out_options,
    add_optimisation_options,
    add_run_options,
    add_text_options,
    as_settings,
    check_held_out,
    check_options,
    check_range,
    make_parser,
)


if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.optim import Optimizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from eigenhub.training.language_run import LanguageRun


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_model_options(parser)
    group = parser.add_argument_group("vocabulary")
    group.add_argument("--tokenizer", default="bytes", help="Hub id, folder or `bytes`; default: %(default)s")
    group.add_argument("--tie_word_embeddings", action=FLAG, default=False, help="one matrix for input and output")
    add_text_options(parser)
    group = parser.add_argument_group("where held-out text comes from")
    group.add_argument("--eval_dataset", help="default: --dataset")
    group.add_argument("--eval_config", help="configuration of --eval_dataset on the Hub")
    group.add_argument("--eval_split", help="default: a part cut from the training data")
    add_held_out_options(parser)
    add_optimisation_options(parser, lr=4e-3)
    add_run_options(parser, output_dir="runs/ssm-lm")
    parser.set_defaults(weight_decay=0.05, max_length=1024)
    args = parse_with_config(parser, argv, supersedes={"epochs": ("max_steps",)})
    try:
        check_options(args)
        check_arguments(args)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    args.command = as_command("accelerate launch scripts/s5_ptd/train_lm.py", parser, args, left_out=PLUMBING)
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """This script's own options, as far as they can be known to fail before a model is made."""
    check_range(args, ("ssm_lr", "hidden_dropout"))
    check_held_out(args)
    if args.norm_type == "batch":
        raise ValueError("--norm_type batch leaks across time: a language model takes layer or none")


def main(argv: list[str] | None = None) -> tuple["LanguageRun", dict]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from accelerate.utils import set_seed
    from lm_report import save, summarise

    from eigenhub.training.language_run import train_run
    from eigenhub.training.publish import create_repo
    from eigenhub.training.setup import make_accelerator

    accelerator = make_accelerator(args, project="state-space-language-models")
    if ignored := ignored_options(args):
        accelerator.print(f"{args.model} ignores: {', '.join(ignored)}")
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    set_seed(args.seed)
    run = prepare(args, accelerator)
    last_row = train_run(run, run.checkpoints.resume(run.args.resume), f"{args.model} {args.init}", current_rates)
    summary = {**summarise(run, last_row), "settings": as_settings(args)}
    save(run, summary)
    accelerator.free_memory()  # before the end: DeepSpeed tidies up through the process group
    accelerator.end_training()
    return run, summary


def prepare(args: argparse.Namespace, accelerator: "Accelerator") -> "LanguageRun":
    """Model, data, optimizer and schedule, ready for the loop."""
    from lra_models import build_optimizer, group_summary

    from eigenhub.embedded.python_sources import load_python_sources
    from eigenhub.training.language_data import LanguageData
    from eigenhub.training.language_run import num_steps, place_model, prepare_run

    with accelerator.main_process_first():  # the main process fills the caches that the others read
        tokenizer = load_tokenizer(args)
        data = LanguageData(args, accelerator, tokenizer, load_python_sources)
    model = place_model(build_model(args, tokenizer), args, accelerator)
    optimizer = build_optimizer(model, args)
    steps = num_steps(args, data)
    accelerator.print(f"{group_summary(optimizer)}\n{args.model} {args.init}, {steps} steps")
    return prepare_run(args, accelerator, data, model, tokenizer, optimizer)


def load_tokenizer(args: argparse.Namespace) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    from eigenhub.embedded.byte_tokenizer import byte_tokenizer

    if args.tokenizer == "bytes":
        return byte_tokenizer(max(1024, args.max_length))
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_model(args: argparse.Namespace, tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedModel":
    """A new language model over the tokens, in float32."""
    from importlib import import_module

    from lra_models import PACKAGES, model_settings

    package, prefix = PACKAGES[args.model]
    module = import_module(package)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    config = getattr(module, f"{prefix}Config")(
        **model_settings(args), **special, vocab_size=len(tokenizer), tie_word_embeddings=args.tie_word_embeddings
    )
    return getattr(module, f"{prefix}ForCausalLM")(config)


def current_rates(optimizer: "Optimizer") -> dict[str, float]:
    """Learning rates of this step by the name of their group."""
    return {f"lr_{group['name']}": group["lr"] for group in optimizer.param_groups}


if __name__ == "__main__":
    main()
