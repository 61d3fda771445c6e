# SPDX-License-Identifier: Apache-2.0
"""What server and clients agree on: settings, model and data, all from the run configuration."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, load_dataset
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    EvalPrediction,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from eigenhub.embedded.digits import load_digits
from eigenhub.embedded.vit import pretrained_vit_folder
from eigenhub.federated.config import FedSVDConfig
from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.partition import dirichlet


DIGITS = "digits"


def federation_of(run: Mapping[str, Any]) -> FedSVDConfig:
    """The settings of the federation.

    Args:
        run (`Mapping`): configuration of the run.
    """
    dp = None
    if run["dp-epsilon"]:
        dp = DPConfig(
            target_epsilon=float(run["dp-epsilon"]),
            target_delta=float(run["dp-delta"]),
            max_grad_norm=float(run["dp-max-grad-norm"]),
        )
    return FedSVDConfig(
        method=str(run["method"]),
        num_rounds=int(run["num-rounds"]),
        client_fraction=float(run["client-fraction"]),
        min_clients=int(run["min-clients"]),
        init_A=str(run["init-A"]),
        downlink=str(run["downlink"]),
        local_steps=int(run["local-steps"]),
        seed=int(run["seed"]),
        dp=dp,
    )


def training_arguments(run: Mapping[str, Any]) -> TrainingArguments:
    """How a client trains in a round.

    Args:
        run (`Mapping`): configuration of the run.
    """
    return TrainingArguments(
        output_dir="unused",  # the rounds are saved by the server
        per_device_train_batch_size=int(run["batch-size"]),
        per_device_eval_batch_size=128,
        optim=str(run["optim"]),
        learning_rate=float(run["learning-rate"]),
        max_grad_norm=float(run["max-grad-norm"]),
        lr_scheduler_type="constant",
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )


def make_model(run: Mapping[str, Any]) -> PeftModel:
    """The base model with a new adapter; of the same seed everywhere, and the head is frozen and sent along.

    Args:
        run (`Mapping`): configuration of the run.
    """
    set_seed(int(run["seed"]))
    lora = LoraConfig(
        r=int(run["lora-r"]),
        lora_alpha=int(run["lora-alpha"]),
        target_modules=[name.strip() for name in str(run["target-modules"]).split(",")],
    )
    if run["model"] == DIGITS:
        return get_peft_model(AutoModelForImageClassification.from_pretrained(pretrained_vit_folder()), lora)
    lora.task_type = TaskType.SEQ_CLS
    base = AutoModelForSequenceClassification.from_pretrained(str(run["model"]), num_labels=int(run["num-labels"]))
    return get_peft_model(base, lora)


def client_data(run: Mapping[str, Any], node: Mapping[str, Any]) -> DatasetDict:
    """A client's rows as `train` and `test`: its own files, or its partition of a common data set.

    Args:
        run (`Mapping`): configuration of the run.
        node (`Mapping`): configuration of the node, with `data-path`, or with `partition-id` and `num-partitions`.

    Raises:
        ValueError: if it has neither.
    """
    if "data-path" in node:
        rows = prepared(run, load_dataset(str(node["data-path"]), split="train"))
    elif {"partition-id", "num-partitions"} <= set(node):
        rows = partitions(int(node["num-partitions"]), *sorted(run.items()))[int(node["partition-id"])]
    else:
        raise ValueError(
            f"the node's configuration needs `data-path`, or `partition-id` and `num-partitions`; got {node}"
        )
    return rows.train_test_split(float(run["held-out"]), seed=int(run["seed"]))


@cache
def partitions(num_clients: int, *run_items: tuple[str, Any]) -> list[Dataset]:
    """The training rows of the common data set, dealt out to clients of different classes.

    Args:
        num_clients (`int`): how many parts.
        run_items (`tuple[str, Any]`): configuration of the run.
    """
    run = dict(run_items)
    rows = load_digits()["train"] if run["model"] == DIGITS else _hub_rows(run, "train")
    label_column = "labels" if run["model"] == DIGITS else str(run["label-column"])
    parts = dirichlet(rows, num_clients, float(run["dirichlet-alpha"]), label_column, seed=int(run["seed"]))
    return parts if run["model"] == DIGITS else [prepared(run, part) for part in parts]


def server_data(run: Mapping[str, Any]) -> Dataset:
    """The rows on which the server evaluates the global adapter.

    Args:
        run (`Mapping`): configuration of the run.
    """
    if run["model"] == DIGITS:
        return load_digits()["test"]
    return prepared(run, _hub_rows(run, "validation"))


def prepared(run: Mapping[str, Any], rows: Dataset) -> Dataset:
    """Rows of text as inputs of the model; digits stay as they are.

    Args:
        run (`Mapping`): configuration of the run.
        rows (`Dataset`): with the text and label columns of the run.
    """
    if run["model"] == DIGITS:
        return rows
    tokenizer = _tokenizer(str(run["model"]))
    columns = [name.strip() for name in str(run["text-columns"]).split(",")]

    def encode(batch: dict[str, list]) -> dict[str, list]:
        texts = [batch[column] for column in columns]
        return tokenizer(*texts, truncation=True, max_length=int(run["max-length"]))

    encoded = rows.map(encode, batched=True)
    if run["label-column"] != "labels":
        encoded = encoded.rename_column(str(run["label-column"]), "labels")
    kept = [*tokenizer.model_input_names, "labels"]
    return encoded.select_columns([name for name in encoded.column_names if name in kept])


def make_collator(run: Mapping[str, Any]) -> Any:
    """What makes a batch of rows.

    Args:
        run (`Mapping`): configuration of the run.
    """
    if run["model"] == DIGITS:
        return default_data_collator
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(_tokenizer(str(run["model"])))


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of the rows whose class is the likeliest one.

    Args:
        prediction (`EvalPrediction`): logits and labels.
    """
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return {"accuracy": float((np.argmax(logits, axis=-1) == prediction.label_ids).mean())}


def _hub_rows(run: Mapping[str, Any], split: str) -> Dataset:
    name, _, subset = str(run["dataset"]).partition(":")
    return load_dataset(name, subset or None, split=split)


@cache
def _tokenizer(model: str) -> Any:
    return AutoTokenizer.from_pretrained(model)
