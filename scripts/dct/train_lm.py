# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["eigenhub[track]"]
# ///
r"""Train a language model with DCT-AdamW, Trion, AuON or a baseline, all under one loop with equal auxiliary settings.

Without a download, in a minute (a tiny byte-level Llama on the sources of Python's standard library):

    accelerate launch scripts/dct/train_lm.py --config scripts/dct/configs/llama_bytes_tiny.yaml --optimizer trion

A Llama from scratch on streamed C4, on eight GPUs, stopped and continued at will:

    accelerate launch --config_file scripts/accelerate_configs/multi_gpu.yaml --num_processes 8 \
        scripts/dct/train_lm.py --config scripts/dct/configs/llama_350m.yaml --optimizer dct_adamw --rank 256

The matrices are the weights of linear layers but for the output head; everything else (embeddings, head, norms) is trained
by AdamW with `--aux_lr`, the same for every optimizer. Published comparisons often tune one of the two rates only.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lm_options import add_optimizer_options, check_optimizer, drop_checkpoints, ignored_options

from eigenhub.embedded.llama_sizes import LLAMA_SIZES
from eigenhub.training.arguments import as_command, parse_with_config
from eigenhub.training.options import (
    FLAG,
    PLUMBING,
    add_gsm8k_options,
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
    from torch.nn import Module
    from torch.optim import Optimizer
    from transformers import PreTrainedTokenizerBase

    from eigenhub.training.language_run import LanguageRun


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    group = parser.add_argument_group("model")
    sizes = ", ".join(LLAMA_SIZES)
    group.add_argument(
        "--model", default="llama_bytes_tiny", help=f"{sizes} (from scratch), or a Hub id or folder; %(default)s"
    )
    group.add_argument("--from_scratch", action=FLAG, default=False, help="of a Hub id only the architecture")
    group.add_argument("--tokenizer", help="Hub id, folder or `bytes`; default: the model's own, else bytes")
    group.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the weights")
    group.add_argument("--license", default="apache-2.0", help="of the trained weights; default: %(default)s")
    add_optimizer_options(parser)
    add_text_options(parser)
    add_held_out_options(parser)
    add_optimisation_options(parser, lr=None)
    add_run_options(parser, output_dir="runs/lm")
    add_gsm8k_options(parser)
    parser.set_defaults(max_length=128, eval_split=None)

    args = parse_with_config(parser, argv, supersedes={"epochs": ("max_steps",)})
    try:
        check_options(args)
        check_arguments(args)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    args.command = as_command("accelerate launch scripts/dct/train_lm.py", parser, args, left_out=PLUMBING)
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """This script's own options, as far as they can be known to fail before a model is loaded."""
    check_optimizer(args)
    check_range(args, ("aux_lr", "aux_eps"))
    check_held_out(args)
    if args.model.startswith((".", "/", "~")) and not Path(args.model).expanduser().is_dir():
        raise FileNotFoundError(f"--model: no such folder: {args.model}")
    if args.eval_gsm8k and not args.eval_split:
        raise ValueError("--eval_gsm8k needs --eval_split")


def main(argv: list[str] | None = None) -> tuple["LanguageRun", dict]:
    """Trains, evaluates and saves; returns what is in memory and the summary, for callers in the same process."""
    args = parse_args(argv)  # before the imports, so that --help and wrong options are answered at once

    from accelerate.utils import set_seed
    from lm_report import subspace_figures, summarise, watch_subspaces

    from eigenhub.training.language_run import train_run
    from eigenhub.training.publish import create_repo
    from eigenhub.training.setup import make_accelerator

    accelerator = make_accelerator(args, project="language-models")
    if ignored := ignored_options(args):
        accelerator.print(f"{args.optimizer} ignores: {', '.join(ignored)}")
    if drop_checkpoints(args):
        accelerator.print(f"{args.optimizer} cannot resume: no checkpoints are written")
    if args.push_to_hub and accelerator.is_main_process:
        create_repo(args.hub_model_id)
    set_seed(args.seed)
    run = prepare(args, accelerator)
    last_row = train_run(
        run, run.checkpoints.resume(run.args.resume), args.optimizer, current_rates, watch_subspaces, subspace_figures
    )
    summary = {**summarise(run, last_row), **run.data.accuracy(run.unwrapped), "settings": as_settings(args)}
    save(run, summary)
    accelerator.free_memory()  # before the end: DeepSpeed tidies up through the process group
    accelerator.end_training()
    return run, summary


def prepare(args: argparse.Namespace, accelerator: "Accelerator") -> "LanguageRun":
    """Model, data, optimizer and schedule, ready for the loop."""
    from lm_optimizers import build_optimizer, routing_summary

    from eigenhub.embedded.python_sources import load_python_sources
    from eigenhub.training.language_data import LanguageData
    from eigenhub.training.language_run import num_steps, place_model, prepare_run

    with accelerator.main_process_first():  # the main process fills the caches that the others read
        tokenizer = load_tokenizer(args)
        data = LanguageData(args, accelerator, tokenizer, load_python_sources)
    model = place_model(build_model(args, tokenizer), args, accelerator)
    optimizer, groups = build_optimizer(model, args)
    accelerator.print(f"{routing_summary(groups)}\n{args.optimizer}, {num_steps(args, data)} steps")
    if accelerator.is_main_process:
        (args.output_dir / "parameter_groups.md").write_text(groups.table() + "\n")
    return prepare_run(args, accelerator, data, model, tokenizer, optimizer)


def load_tokenizer(args: argparse.Namespace) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    from eigenhub.embedded.byte_tokenizer import byte_tokenizer

    name = args.tokenizer or ("bytes" if args.model in LLAMA_SIZES else args.model)
    tokenizer = byte_tokenizer(max(1024, args.max_length)) if name == "bytes" else AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_model(args: argparse.Namespace, tokenizer: "PreTrainedTokenizerBase") -> "Module":
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from eigenhub.embedded.llama_sizes import llama_config

    if args.model not in LLAMA_SIZES and not args.from_scratch:
        return AutoModelForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    if args.model in LLAMA_SIZES:
        config = llama_config(args.model, tokenizer, args.max_length)
    else:
        config = AutoConfig.from_pretrained(args.model, vocab_size=len(tokenizer))
    dtype = torch.float32 if args.dtype == "auto" else getattr(torch, args.dtype)
    return AutoModelForCausalLM.from_config(config, dtype=dtype)


def current_rates(optimizer: "Optimizer") -> dict[str, float]:
    """Learning rates of this step: that of the matrices, which come first, and that of the rest."""
    return {"lr": optimizer.param_groups[0]["lr"], "aux_lr": optimizer.param_groups[-1]["lr"]}


def save(run: "LanguageRun", summary: dict) -> None:
    """Writes model, tokenizer, optimizer configuration, summary and card; pushes if asked to."""
    from lm_optimizers import optimizer_config
    from lm_report import write_model_card

    from eigenhub.training.language_run import save_run

    def write_more() -> None:
        if (config := optimizer_config(run.args)) is not None:
            config.save_pretrained(run.args.output_dir)
        write_model_card(run, summary)

    save_run(run, summary, write_more, also=("parameter_groups.md",))


if __name__ == "__main__":
    main()
