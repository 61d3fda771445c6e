# SPDX-License-Identifier: Apache-2.0
"""From the settings of a run to clients with data, a model with an adapter, and a trainer; all of it belongs to this run alone."""

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from names import BATCH, CLIP, HELD_OUT, MIN_ROWS, RANK, SGD
from peft import LoraConfig, PeftModel, get_peft_model
from settings import Settings
from torch import Tensor, nn
from transformers import AutoModelForImageClassification, EvalPrediction, TrainingArguments

from eigenhub.embedded.digits import NUM_CLASSES, as_rows, load_digits
from eigenhub.embedded.vit import pretrained_vit_folder
from eigenhub.federated import (
    DPConfig,
    FederatedCallback,
    FederatedLoraTrainer,
    FedSVDConfig,
    dirichlet,
    pair_lora_keys,
)


Rows = list[dict[str, Tensor]]

#: Held while anything is trained or evaluated. accelerate keeps its state in class attributes, which every `TrainingArguments`
#: and `Trainer` sets anew: runs may alternate in a process, but two threads at once would take it from each other.
TRAINING = threading.RLock()


@lru_cache(maxsize=1)
def digits() -> DatasetDict:
    """The upright digits; read once, changed by nobody."""
    return load_digits()


def client_rows(settings: Settings) -> dict[str, Rows]:
    """The upright digits of every client, by its name."""
    parts = dirichlet(digits()["train"], settings.clients, settings.alpha, min_size=MIN_ROWS, seed=settings.seed)
    return {f"client {place}": as_rows(part) for place, part in enumerate(parts, 1)}


def class_counts(clients: Mapping[str, Rows]) -> dict[str, list[int]]:
    """How many of each digit a client has."""
    counts = {name: Counter(int(row["labels"]) for row in rows) for name, rows in clients.items()}
    return {name: [count[digit] for digit in range(NUM_CLASSES)] for name, count in counts.items()}


def divided(clients: Mapping[str, Rows]) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """What each client trains on and what it keeps to judge by; rows are in random order already."""
    cut = {name: math.ceil(HELD_OUT * len(rows)) for name, rows in clients.items()}
    return (
        {name: rows[cut[name] :] for name, rows in clients.items()},
        {name: rows[: cut[name]] for name, rows in clients.items()},
    )


def new_model(settings: Settings) -> PeftModel:
    """The ViT that knows turned digits, with a fresh adapter on the projections of queries and values and a frozen head."""
    base = AutoModelForImageClassification.from_pretrained(pretrained_vit_folder())
    model = get_peft_model(
        base,
        LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]),
    )
    draw_adapter_(model, settings.init, settings.seed)
    return model


@torch.no_grad()
def draw_adapter_(model: PeftModel, init: str, seed: int) -> None:
    """Draw every A from a generator of this run: torch's global one is shared by all visitors."""
    generator = torch.Generator().manual_seed(seed)
    state = dict(model.named_parameters())
    for pair in pair_lora_keys(state).values():
        if init == "gaussian":
            nn.init.normal_(state[pair.A], std=1 / RANK, generator=generator)
        else:  # orthonormal rows are made of these by the trainer
            nn.init.kaiming_uniform_(state[pair.A], a=math.sqrt(5), generator=generator)


def new_trainer(
    settings: Settings, folder: str | Path, callbacks: Sequence[FederatedCallback] = (), use_cpu: bool = False
) -> FederatedLoraTrainer:
    """
    A trainer that is ready for its first round.

    Args:
        settings (`Settings`): of the run.
        folder (`str` or `Path`): for the state of the rounds.
        callbacks (`Sequence[FederatedCallback]`, *optional*): of the trainer.
        use_cpu (`bool`, *optional*, defaults to `False`): stay off the GPU, which is there only for what asks for it.

    Raises:
        ValueError: for a split or a budget that cannot be had.
        ImportError: under differential privacy without Opacus.
    """
    training, held_out = divided(client_rows(settings))
    return FederatedLoraTrainer(
        new_model(settings),
        training_arguments(settings, folder, use_cpu),
        training,
        config=new_config(settings),
        compute_metrics=accuracy,
        eval_dataset=as_rows(digits()["test"]),
        client_eval_datasets=held_out,
        callbacks=callbacks,
    )


def new_config(settings: Settings) -> FedSVDConfig:
    """The settings in the words of the library."""
    # RDP finds the noise of a client in well under a second, PRV takes several.
    private = DPConfig(settings.epsilon, settings.delta, settings.clip, accountant="rdp") if settings.epsilon else None
    return FedSVDConfig(
        method=settings.method,
        init_A="orthonormal" if settings.init == "orthonormal" else "keep",
        downlink="rotation" if settings.rotation else "full",
        client_fraction=settings.share,
        num_rounds=settings.rounds,
        local_steps=settings.steps,
        seed=settings.seed,
        private_metrics=settings.show_private,
        dp=private,
    )


def training_arguments(settings: Settings, folder: str | Path, use_cpu: bool = False) -> TrainingArguments:
    """Of the clients' local training."""
    return TrainingArguments(
        str(folder),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=600,
        learning_rate=settings.rate,
        optim="sgd" if settings.optimizer == SGD else "adamw_torch",
        lr_scheduler_type="constant",
        max_grad_norm=CLIP,
        use_cpu=use_cpu,
        dataloader_pin_memory=torch.cuda.is_available() and not use_cpu,
        report_to="none",
        disable_tqdm=True,
    )


def accuracy(prediction: EvalPrediction) -> dict[str, Any]:
    """Share of right answers."""
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}
