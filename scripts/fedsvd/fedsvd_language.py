# SPDX-License-Identifier: Apache-2.0
"""A causal language model on prompts and responses, or on plain text, of many clients; the loss is on the responses."""

import argparse
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from fedsvd_clients import deal, hold_out, set_public_aside
from fedsvd_tasks import Task, first_rows
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from eigenhub.embedded.text import language_model, text_rows
from eigenhub.training.options import EMBEDDED
from eigenhub.training.text_source import TextColumns, find_columns
from eigenhub.training.tokenization import tokenize


def load_language_task(args: argparse.Namespace) -> Task:
    """Base model, clients and test of a causal language model.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    rows = with_inputs(args, text_rows(args.dataset, args.dataset_split, args.dataset_config))
    columns = find_columns(rows.column_names, args.prompt_column, args.response_column, args.text_column)
    public, private = set_public_aside(args, rows)
    source = language_model(args.model, args.dataset, rows if public is None else public, columns)
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    train, held_out = hold_out(args, deal(args, private, args.label_column))
    return Task(
        model=load_model(args, source),
        task_type="CAUSAL_LM",
        target_modules=None,
        clients={name: as_tokens(args, part, tokenizer, columns) for name, part in train.items()},
        held_out={name: as_tokens(args, part, tokenizer, columns) for name, part in held_out.items()},
        tests=test_rows(args, tokenizer, columns),
        hub_task="text-generation",
        dataset=args.eval_dataset or args.dataset,
        collate=DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100),
        tokenizer=tokenizer,
    )


def with_inputs(args: argparse.Namespace, rows: Dataset) -> Dataset:
    """Rows whose prompt contains the input column, where it is not empty."""
    prompt, further = args.prompt_column, args.input_column
    if not further:
        return rows
    if missing := [name for name in (prompt, further) if name not in rows.column_names]:
        raise ValueError(f"the data has no column {missing[0]!r}; its columns are {', '.join(rows.column_names)}")
    return rows.map(
        lambda row: {prompt: f"{row[prompt]}\n\n{row[further]}" if row[further] else row[prompt]},
        desc="joining prompts and inputs",
    )


def load_model(args: argparse.Namespace, source: str | Path) -> PreTrainedModel:
    """The base, in four bits if asked for."""
    options: dict[str, Any] = {"dtype": args.dtype}
    if args.load_in_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return AutoModelForCausalLM.from_pretrained(source, **options)


def as_tokens(
    args: argparse.Namespace, rows: Dataset, tokenizer: PreTrainedTokenizerBase, columns: TextColumns
) -> Dataset:
    """Token rows of one client or split."""
    return tokenize(rows, tokenizer, columns, args.max_length, args.prompt_template, args.max_length_each)


def test_rows(
    args: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, columns: TextColumns
) -> dict[str, Dataset]:
    """Token rows by split; without splits named, those of the embedded data or none."""
    splits = args.eval_splits or (["test"] if args.dataset == EMBEDDED else ["train"] if args.eval_dataset else [])
    elsewhere = args.eval_dataset is not None
    found = {}
    for split in splits:
        rows = text_rows(args.eval_dataset or args.dataset, split, None if elsewhere else args.dataset_config)
        rows = with_inputs(args, first_rows(rows, args.eval_samples))
        found[split] = as_tokens(args, rows, tokenizer, columns)
    return found
