# SPDX-License-Identifier: Apache-2.0
"""What a task gives: a base model, the rows of every client, test rows, and how rows become batches and figures."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.utils.data import Dataset
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Task:
    """One task, loaded.

    Args:
        model (`PreTrainedModel`): the frozen base.
        task_type (`str`, *optional*): PEFT's, where it has one.
        target_modules (`Sequence[str]`, *optional*): layers to adapt; None for PEFT's own choice by architecture.
        clients (`Mapping[str, Dataset]`): training rows by client.
        held_out (`Mapping[str, Dataset]`): rows of the same clients to evaluate on; empty if there are none.
        tests (`Mapping[str, Dataset]`): test rows by split, the first for the rounds; empty if there are none.
        hub_task (`str`): task name of the Hub.
        dataset (`str`): what was evaluated on.
        collate (`Callable`, *optional*): makes a batch of a list of rows.
        compute_metrics (`Callable`, *optional*): of predictions.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): saved beside the adapter.
        head (`Sequence[str]`, *optional*): layers of the head that PEFT does not know by the task type.
    """

    model: PreTrainedModel
    task_type: str | None
    target_modules: Sequence[str] | None
    clients: Mapping[str, Dataset]
    held_out: Mapping[str, Dataset]
    tests: Mapping[str, Dataset]
    hub_task: str
    dataset: str
    collate: Callable[[list], dict[str, Any]] | None = None
    compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    head: Sequence[str] = field(default_factory=tuple)


def load_task(args: argparse.Namespace) -> Task:
    """The task of the options.

    Args:
        args (`argparse.Namespace`): of the script, complete.
    """
    if args.task == "digits":
        from fedsvd_digits import load_digits_task

        return load_digits_task(args)
    if args.task == "causal_lm":
        from fedsvd_language import load_language_task

        return load_language_task(args)
    from fedsvd_sentences import load_sentences_task

    return load_sentences_task(args)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of rows whose largest logit is that of the label."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return {"accuracy": float((logits.argmax(-1) == prediction.label_ids).mean())}


def first_rows(rows: Any, count: int | None) -> Any:
    """The first rows of a data set, all of them without a count."""
    return rows if count is None else rows.select(range(min(count, len(rows))))
