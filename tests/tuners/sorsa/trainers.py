# SPDX-License-Identifier: Apache-2.0
"""Short `Trainer` runs whose end depends on the strength of the penalty."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import Trainer, TrainingArguments

from eigenhub.tuners.sorsa import SorsaRegularizerCallback, SorsaTrainer
from tests.support.data import counting_rows
from tests.tuners.sorsa.helpers import adapted_llama


ARGUMENTS: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 0.05,
    "lr_scheduler_type": "constant",
    "optim": "sgd",
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "seed": 3,
}
ROUTES = ("none", "callback", "trainer")


def rows(number: int = 64) -> list[dict[str, list[int]]]:
    return [{"input_ids": row, "labels": row} for row in counting_rows(number, length=8)]


def trainer(
    model: PeftModel,
    folder: Path | str,
    trainer_class: type[Trainer] = Trainer,
    callbacks: list | None = None,
    train_dataset: list | None = None,
    optimizers: tuple = (None, None),
    eval_dataset: list | None = None,
    **arguments: Any,
) -> Trainer:
    return trainer_class(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **(ARGUMENTS | arguments)),
        train_dataset=rows() if train_dataset is None else train_dataset,
        eval_dataset=eval_dataset,
        callbacks=callbacks,
        optimizers=optimizers,
    )


def trainer_of_route(model: PeftModel, folder: Path | str, route: str, **arguments: Any) -> Trainer:
    """A Trainer with no penalty, the callback, the callback with `broadcast`, or the loss route."""
    if route == "trainer":
        return trainer(model, folder, SorsaTrainer, **arguments)
    chosen = {
        "none": [],
        "callback": [SorsaRegularizerCallback()],
        "broadcast": [SorsaRegularizerCallback(broadcast=True)],
    }
    return trainer(model, folder, callbacks=chosen[route], **arguments)


def train(
    route: str, folder: Path | str, accumulation: int = 1, processes: int = 1, **arguments: Any
) -> dict[str, Any]:
    """Two steps over 8 samples each, in any split; what came out, as JSON."""
    model = adapted_llama(moved=True, reg_weight=2.0)
    size = 8 // (accumulation * processes)
    run = trainer_of_route(
        model, folder, route, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation, **arguments
    )
    run.train()
    sharded = sum(hasattr(parameter, "device_mesh") for parameter in model.parameters())
    return {"penalty": model.regularization_loss().item(), "factors": factors(model), "sharded": sharded}


def factors(model: torch.nn.Module) -> list[float]:
    """Sum and norm of every trained factor, gathered if it is sharded."""
    found = []
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad and ".sorsa_" in f".{name}":
            whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
            found += [whole.double().sum().item(), whole.double().norm().item()]
    return found
