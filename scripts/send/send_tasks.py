# SPDX-License-Identifier: Apache-2.0
"""What `train_send.py` learns from: the embedded facts, or texts of any data set; each with tracked and held-out rows."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from eigenhub.embedded.fact_answers import encode_facts
from eigenhub.embedded.fact_model import pretrained_fact_folder
from eigenhub.embedded.facts import FactRecipe, load_facts
from eigenhub.training.options import EMBEDDED
from eigenhub.training.text_source import TextColumns, find_columns, is_local, load_text_dataset
from eigenhub.training.tokenization import tokenize


Rows = Sequence[Mapping[str, Any]]


@dataclass
class Task:
    """One task, loaded.

    Args:
        model (`PreTrainedModel`): to train.
        tokenizer (`PreTrainedTokenizerBase`): of the model.
        train (`Sequence[Mapping]`): rows of `input_ids` and `labels` to learn from, the same in all arms.
        track (`Sequence[Mapping]`): tracked rows, none of them in `train`.
        test (`Sequence[Mapping]`): held-out rows.
        questions (`Sequence[Mapping]`): with `prompt` and `answer`, each right or wrong; empty for texts.
        prompts (`Sequence[str]`): what scores are taken of.
        name (`str`): of the data, for readers elsewhere.
        split (`str`): of the held-out rows.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    train: Rows
    track: Rows
    test: Rows
    prompts: Sequence[str]
    name: str
    split: str
    questions: Rows = field(default_factory=tuple)


def load_task(args: argparse.Namespace) -> Task:
    """The task of the options.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    return facts_task(args) if args.dataset == EMBEDDED else texts_task(args)


def load_model(args: argparse.Namespace, source: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer; a missing padding token is the end of the text.

    Args:
        args (`argparse.Namespace`): of the script.
        source (`str` or `Path`): Hub id or folder.
    """
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(source, dtype=args.dtype), tokenizer


def facts_task(args: argparse.Namespace) -> Task:
    """New facts for a model that knows others; the test questions are in an order of their own, the same every time.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    recipe = FactRecipe(seed=args.world_seed, track_share=args.track_fraction)
    source = pretrained_fact_folder(recipe) if args.model == EMBEDDED else args.model
    model, tokenizer = load_model(args, source)
    facts = load_facts(recipe)
    order = torch.randperm(len(facts["test"]), generator=torch.Generator().manual_seed(0))
    test = facts["test"].select(order[: args.eval_samples].tolist())
    return Task(
        model=model,
        tokenizer=tokenizer,
        train=encode_facts(
            facts["train"].take(min(args.max_samples or len(facts["train"]), len(facts["train"]))), tokenizer
        ),
        track=encode_facts(facts["track"], tokenizer),
        test=encode_facts(test, tokenizer),
        prompts=test["prompt"][: args.score_prompts],
        name="eigenhub/facts",
        split="test",
        questions=[{"prompt": row["prompt"], "answer": row["answer"]} for row in test],
    )


def texts_task(args: argparse.Namespace) -> Task:
    """One row per text, cut to `--max_length`, or prompts with responses; parts of the rows are tracked and held out.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    rows = load_text_dataset(args.dataset, args.dataset_split, args.dataset_config)
    rows = rows.select(range(min(args.max_samples or len(rows), len(rows))))
    columns = find_columns(rows.column_names, args.prompt_column, args.response_column, args.text_column)
    held_out = None
    if args.eval_dataset or args.eval_split:
        config = None if args.eval_dataset else args.dataset_config
        held_out = load_text_dataset(args.eval_dataset or args.dataset, args.eval_split or "test", config)
    train, track, test = split_rows(rows, args.track_fraction, 0.0 if held_out else args.test_fraction, args.seed)
    test = held_out if held_out is not None else test
    test = test.select(range(min(args.eval_samples or len(test), len(test))))
    model, tokenizer = load_model(args, args.model)
    encode = row_encoder(args, tokenizer, columns)
    first = test.select(range(min(args.score_prompts, len(test))))
    source = args.eval_dataset or args.dataset
    return Task(
        model=model,
        tokenizer=tokenizer,
        train=encode(train),
        track=encode(track),
        test=encode(test),
        prompts=prompts_of(args, first, columns),
        name=Path(source).stem if is_local(source) else source,
        split=(args.eval_split or "test") if held_out is not None else f"{args.dataset_split}, a part held out",
    )


def split_rows(rows: Dataset, track: float, test: float, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Rows to train on, to track and to hold out, each in the order of the data set; no row is in two of them.

    Args:
        rows (`Dataset`): all of them.
        track (`float`): share to track, one row at least.
        test (`float`): share to hold out, one row at least unless it is 0.
        seed (`int`): of the choice.
    """
    counts = [max(1, int(share * len(rows) + 1e-9)) if share else 0 for share in (track, test)]
    if len(rows) <= sum(counts):
        raise ValueError(f"{len(rows)} rows are too few to track {counts[0]} and hold out {counts[1]} of them")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = order[sum(counts) :], order[: counts[0]], order[counts[0] : sum(counts)]
    train, tracked, held_out = (rows.select(sorted(part)) for part in parts)
    return train, tracked, held_out


def row_encoder(
    args: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, columns: TextColumns
) -> Callable[[Dataset], Rows]:
    """What turns rows of text into tokens and labels.

    Args:
        args (`argparse.Namespace`): of the script.
        tokenizer (`PreTrainedTokenizerBase`): of the model.
        columns (`TextColumns`): where the text is.
    """
    if columns.prompt is not None:
        layout = (args.max_length, args.prompt_template, args.max_length_each)
        return lambda rows: list(tokenize(rows, tokenizer, columns, *layout))
    return lambda rows: [text_row(tokenizer, row[columns.text], args.max_length) for row in rows]


def text_row(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int) -> dict[str, list[int]]:
    """A whole text with its end, cut to a length; the loss is on all of it.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): of the model.
        text (`str`): one or more tokens.
        max_length (`int`): most tokens.
    """
    ids = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
    if len(ids) < max_length and (not ids or ids[-1] != tokenizer.eos_token_id):
        ids = [*ids, tokenizer.eos_token_id]
    return {"input_ids": ids, "labels": list(ids)}


def prompts_of(args: argparse.Namespace, rows: Dataset, columns: TextColumns) -> list[str]:
    """Prompts as the model reads them; of plain text its first half, by words.

    Args:
        args (`argparse.Namespace`): of the script.
        rows (`Dataset`): held out.
        columns (`TextColumns`): where the text is.
    """
    if columns.prompt is not None:
        return [args.prompt_template.format(prompt=row[columns.prompt]) for row in rows]
    words = [row[columns.text].split() for row in rows]
    return [" ".join(text[: max(1, len(text) // 2)]) for text in words]
