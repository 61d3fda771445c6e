# SPDX-License-Identifier: Apache-2.0
"""The two federated tasks of the FedSVD study: upright digits, and sentences of SST-2 with a small RoBERTa."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    set_seed,
)

from eigenhub.embedded import roberta, vit
from eigenhub.embedded.digits import as_rows, load_digits
from eigenhub.embedded.roberta import pretrained_roberta_folder
from eigenhub.embedded.sentences import load_sentences
from eigenhub.federated import dirichlet


NUM_CLIENTS, RANK = 6, 8
#: Dirichlet concentration. Two classes at 0.5 give clients of a single class, and averages that swing from one to the other.
ALPHAS = {"digits": 0.5, "sentences": 5.0}
MAX_TOKENS = 32
#: Folder with `train.tsv`, `dev.tsv` and `test.tsv` of SST-2.
SENTENCES = Path(os.environ.get("EIGENHUB_SST2", Path(__file__).resolve().parents[3] / "shared" / "data" / "sst2"))


@dataclass(frozen=True)
class FederatedTask:
    """Clients with private rows, rows to choose by and rows to report on, and the frozen model that all start from.

    Args:
        clients (`dict[str, list]`): training rows by client.
        splits (`dict[str, list]`): rows by the name of the split, `test` and possibly `dev`.
        new_model (`Callable[[int], PeftModel]`): LoRA on the frozen model; the seed draws A, and the head where it is random.
        batch_size (`int`): rows of a local step, expected number under differential privacy.
        train_head (`bool`): whether the classification head is trained and averaged too.
        delta (`float`): of the privacy guarantee, below one over the rows of a client.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): pads batches.
    """

    clients: dict[str, list]
    splits: dict[str, list]
    new_model: Callable[[int], PeftModel]
    batch_size: int
    train_head: bool
    delta: float
    tokenizer: PreTrainedTokenizerBase | None = None


@cache
def digits_task(seed: int) -> FederatedTask:
    """Upright digits for a ViT that has seen turned ones; its head stays as it was pretrained.

    Args:
        seed (`int`): of the division among clients.
    """
    data = load_digits()

    def new_model(seed: int) -> PeftModel:
        set_seed(seed)
        model = AutoModelForImageClassification.from_pretrained(vit.pretrained_vit_folder())
        return get_peft_model(model, lora_config(("q_proj", "v_proj")))

    clients = _divided(data["train"], "digits", seed, as_rows)
    return FederatedTask(clients, {"test": as_rows(data["test"])}, new_model, 32, train_head=False, delta=1e-3)


@cache
def sentences_task(seed: int) -> FederatedTask:
    """SST-2 for a small RoBERTa whose random head is trained and averaged.

    A hundred thousand words without labels teach a model of this size nothing of sentiment, so the encoder is pretrained
    with the labels of the first half of the training sentences; the clients share the other half.

    Args:
        seed (`int`): of the division among clients.
    """
    data = load_sentences(SENTENCES)
    sentences, labels = data["train"]["sentence"][:], data["train"]["labels"][:]
    half = len(sentences) // 2
    folder = pretrained_roberta_folder(sentences, labels[:half], sentences[:half], keep_head=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def rows(split: Dataset) -> list[dict[str, Any]]:
        columns = split[:]
        found = tokenizer(columns["sentence"], truncation=True, max_length=MAX_TOKENS)
        return [
            {"input_ids": ids, "attention_mask": mask, "labels": label}
            for ids, mask, label in zip(found["input_ids"], found["attention_mask"], columns["labels"], strict=True)
        ]

    def new_model(seed: int) -> PeftModel:
        set_seed(seed)  # the head is new here
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
        return get_peft_model(model, lora_config(roberta.TARGET_MODULES))

    clients = _divided(data["train"].select(range(half, len(sentences))), "sentences", seed, rows)
    splits = {name: rows(data[name]) for name in ("dev", "test")}
    return FederatedTask(clients, splits, new_model, 16, train_head=True, delta=1e-4, tokenizer=tokenizer)


@cache
def frozen_head_task(seed: int) -> FederatedTask:
    """The sentences as the published experiments have them: the random head, the same for all clients, stays as it is.

    Args:
        seed (`int`): of the division among clients.
    """
    return replace(sentences_task(seed), train_head=False)


TASKS = {"digits": digits_task, "sentences": sentences_task, "frozen head": frozen_head_task}


def lora_config(target_modules: Sequence[str]) -> LoraConfig:
    """LoRA of the study: scale 1, no dropout, the head part of the adapter.

    Args:
        target_modules (`Sequence[str]`): ends of the names of the adapted layers.
    """
    return LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=list(target_modules), modules_to_save=["classifier"], lora_dropout=0.0
    )


def _divided(split: Dataset, task: str, seed: int, rows: Callable[[Dataset], list]) -> dict[str, list]:
    parts = dirichlet(split, NUM_CLIENTS, alpha=ALPHAS[task], label_column="labels", seed=seed)
    return {f"client{number}": rows(part) for number, part in enumerate(parts)}
