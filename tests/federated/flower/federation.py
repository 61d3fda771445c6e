# SPDX-License-Identifier: Apache-2.0
"""A federation of four tiny clients, on Flower in one process and by the embedded trainer."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertForSequenceClassification, EvalPrediction, TrainingArguments

from eigenhub.federated import FederatedLoraTrainer, FedSVDConfig
from eigenhub.federated.flower import FedSVDStrategy, InProcessGrid, make_client_app
from tests.support.models import VOCABULARY, tiny_bert


SIZES = (40, 25, 60, 33)
NUM_LABELS = 3
NUM_CLIENTS = len(SIZES)


def make_model(rank: int = 4, **options: Any) -> PeftModel:
    """A text classifier whose head is saved with the adapter; the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lora = LoraConfig(r=rank, lora_alpha=4, target_modules=["query", "value"], task_type="SEQ_CLS", **options)
        return get_peft_model(base_model(), lora)


def base_model() -> BertForSequenceClassification:
    """With weights of a size at which the adapter of an untrained model learns something."""
    return tiny_bert(num_labels=NUM_LABELS, initializer_range=0.5)


@cache
def client_rows() -> list[Dataset]:
    """Rows of every client, of different numbers."""
    generator = torch.Generator().manual_seed(1)

    def draw(size: int) -> Dataset:
        ids = torch.randint(4, VOCABULARY, (size, 8), generator=generator)
        labels = torch.randint(0, NUM_LABELS, (size,), generator=generator)
        return Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels.tolist()}).with_format("torch")

    return [draw(size) for size in SIZES]


def rows_of(context: Context) -> Dataset:
    return client_rows()[int(context.node_config["partition-id"])]


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    defaults = {"per_device_train_batch_size": 8, "optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 1.0}
    defaults |= {"lr_scheduler_type": "constant"}
    return TrainingArguments(str(folder), use_cpu=True, report_to="none", disable_tqdm=True, **(defaults | options))


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def make_app(folder: Path, **options: Any) -> ClientApp:
    """The client app of all four; `options` go to `make_client_app`."""
    defaults = {"model_fn": lambda context: make_model(), "data_fn": rows_of, "eval_data_fn": rows_of}
    return make_client_app(**(defaults | {"args": arguments(folder), "compute_metrics": accuracy} | options))


def federation(**options: Any) -> FedSVDConfig:
    return FedSVDConfig(**({"num_rounds": 3, "local_steps": 3, "client_fraction": 0.5, "seed": 3} | options))


def embedded(config: FedSVDConfig, folder: Path, **options: Any) -> FederatedLoraTrainer:
    """The embedded trainer at the end of its run."""
    trainer = FederatedLoraTrainer(make_model(), arguments(folder, **options), client_rows(), config=config)
    trainer.train()
    return trainer


def on_flower(
    config: FedSVDConfig, app: ClientApp, model: PeftModel | None = None, nodes: Any = NUM_CLIENTS, **options: Any
) -> FedSVDStrategy:
    """The strategy at the end of its run in one process."""
    strategy = FedSVDStrategy(config, model or make_model(), **({"fraction_evaluate": 0.0} | options))
    with InProcessGrid(app, nodes) as grid:
        strategy.run(grid)
    return strategy


def meddling(app: ClientApp, meddle: Any, partition: int = 1) -> ClientApp:
    """An app that does as `app`, but what `meddle(reply, message)` makes of it on one client."""
    outer = ClientApp()

    @outer.train()
    def train(message: Message, context: Context) -> Message:
        reply = app(message, context)
        return meddle(reply, message) if context.node_config["partition-id"] == partition else reply

    @outer.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return app(message, context)

    return outer


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Relative to the size of each tensor; B must have learnt something, unless it starts anew each round (FLoRA)."""
    assert list(one) == list(other)
    norms = {key: tensor.double().norm().item() for key, tensor in other.items()}
    learnt = max(norm for key, norm in norms.items() if "lora_B" in key)
    assert learnt > 0.05 or learnt == 0
    return max((one[k].double() - other[k].double()).norm().item() / max(norms[k], 0.05) for k in other)
