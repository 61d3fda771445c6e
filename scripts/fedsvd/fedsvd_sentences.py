# SPDX-License-Identifier: Apache-2.0
"""Classification of sentences or pairs of them: GLUE, SNLI, any other set of the Hub, or tables on this machine."""

import argparse
import csv
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, load_dataset
from fedsvd_checks import TABLES
from fedsvd_clients import deal, hold_out, set_public_aside
from fedsvd_tasks import Task, accuracy, first_rows
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from eigenhub.training.options import EMBEDDED
from eigenhub.training.text_source import BUILDERS, is_local


SEPARATORS = {".tsv": "\t", ".csv": ","}


def load_sentences_task(args: argparse.Namespace) -> Task:
    """Base model, clients and test of a classification of sentences.

    Args:
        args (`argparse.Namespace`): of the script.
    """
    rows = labelled(args, read_split(args, args.dataset, args.dataset_split))
    classes = class_names(rows, args.label_column)
    tests = {split: labelled(args, read_split(args, source, split)) for source, split in test_splits(args)}
    public, private = set_public_aside(args, rows)
    source = embedded_model(args, rows, public, classes) if args.model == EMBEDDED else args.model
    tokenizer = AutoTokenizer.from_pretrained(source)
    dealt = deal(args, as_tokens(args, private, tokenizer, classes), "labels")
    train, held_out = hold_out(args, dealt)
    names = {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    options: dict[str, Any] = {"num_labels": len(classes), "dtype": args.dtype, **names}
    return Task(
        model=AutoModelForSequenceClassification.from_pretrained(source, **options),
        task_type="SEQ_CLS",
        target_modules=None,
        clients=train,
        held_out=held_out,
        tests={
            split: as_tokens(args, first_rows(test, args.eval_samples), tokenizer, classes)
            for split, test in tests.items()
        },
        hub_task="text-classification",
        dataset=args.eval_dataset or args.dataset,
        collate=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        tokenizer=tokenizer,
    )


def test_splits(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Sources and splits of the test rows."""
    source = args.eval_dataset or args.dataset
    default = ["train"] if args.eval_dataset and is_table(args.eval_dataset) else []
    return [(source, split) for split in args.eval_splits or default]


def is_table(source: str) -> bool:
    return Path(source).suffix in TABLES


def read_split(args: argparse.Namespace, source: str, split: str) -> Dataset:
    """One split of the Hub, of a folder with a table for each split, or of one table (its split is `train`).

    Args:
        args (`argparse.Namespace`): of the script.
        source (`str`): Hub id, folder or file.
        split (`str`): name of the split, with an optional slice as in `train[:1000]`.
    """
    if not (is_local(source) or is_table(source)):
        return load_dataset(source, args.dataset_config if source == args.dataset else None, split=split)
    path, name = Path(source).expanduser(), split.split("[")[0]
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.stem == name and file.suffix in TABLES)
        if not found:
            there = ", ".join(sorted(file.stem for file in path.iterdir() if file.suffix in TABLES)) or "none"
            raise ValueError(f"{source} has no table {name!r}; there are: {there}")
        path = found[0]
    options: dict[str, Any] = {}
    if path.suffix in SEPARATORS:
        options = {"delimiter": SEPARATORS[path.suffix], "column_names": args.column_names}
        if path.suffix == ".tsv":  # quotation marks are text there
            options["quoting"] = csv.QUOTE_NONE
    builder = BUILDERS.get(path.suffix, "csv")
    return load_dataset(builder, data_files={name: str(path)}, split=split, **options)


def labelled(args: argparse.Namespace, rows: Dataset) -> Dataset:
    """The rows that have a label: SNLI marks those without agreement by -1."""
    wanted = [*args.sentence_columns, args.label_column]
    if missing := [name for name in wanted if name not in rows.column_names]:
        raise ValueError(f"the data has no column {missing[0]!r}; its columns are {', '.join(rows.column_names)}")
    labels = rows[args.label_column][:]
    return rows.select([row for row, label in enumerate(labels) if label is not None and label != -1])


def class_names(rows: Dataset, column: str) -> list[str]:
    """Names of the classes, in the order of their numbers."""
    feature = rows.features[column]
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    classes = [str(value) for value in sorted(set(rows[column][:]))]
    if len(classes) < 2:
        raise ValueError(f"column {column!r} has {len(classes)} class, a classifier needs two")
    return classes


def as_tokens(args: argparse.Namespace, rows: Dataset, tokenizer: Any, classes: list[str]) -> Dataset:
    """Token rows with `labels`, and the column of owners if there is one."""
    limit = min(args.max_length, tokenizer.model_max_length)
    labels = class_numbers(rows, args.label_column, classes)
    dropped = [name for name in rows.column_names if name != args.client_column]
    tokens = rows.map(
        lambda batch: tokenizer(*(batch[name] for name in args.sentence_columns), truncation=True, max_length=limit),
        batched=True,
        remove_columns=dropped,
        desc="tokenizing",
    )
    return tokens.add_column("labels", labels)


def embedded_model(args: argparse.Namespace, rows: Dataset, public: Dataset | None, classes: list[str]) -> Path:
    """Folder of a small RoBERTa pretrained on public rows and their classes; without such rows, on the text of all.

    Only the encoder is kept: the clients' head is new. Text alone would not do, there is too little of it to tell what the
    classes are about.
    """
    from eigenhub.embedded.roberta import pretrained_roberta_folder

    if public is None:
        return pretrained_roberta_folder(joined(args, rows))
    labels = class_numbers(public, args.label_column, classes)
    return pretrained_roberta_folder(joined(args, public), labels, seed=args.seed, keep_head=False)


def joined(args: argparse.Namespace, rows: Dataset) -> list[str]:
    """One text per row, of both columns of a pair."""
    return [" ".join(parts) for parts in zip(*(rows[name][:] for name in args.sentence_columns), strict=True)]


def class_numbers(rows: Dataset, column: str, classes: list[str]) -> list[int]:
    """The class of every row; raises for one that does not occur in training."""
    feature = rows.features[column]
    number = {name: index for index, name in enumerate(classes)}
    names = feature.names if isinstance(feature, ClassLabel) else None
    given = [names[label] if names else str(label) for label in rows[column][:]]
    if unknown := [name for name in given if name not in number]:
        raise ValueError(f"class {unknown[0]!r} does not occur in training; known are {', '.join(classes)}")
    return [number[name] for name in given]
