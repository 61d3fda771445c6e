# SPDX-License-Identifier: Apache-2.0
"""Small federations: tiny models with LoRA, and the rows of three clients, made offline in milliseconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import TrainingArguments

from eigenhub.federated import FederatedLoraTrainer, FedSVDConfig
from tests.support.models import tiny_bert, tiny_llama, tiny_vit


Rows = list[dict[str, torch.Tensor]]


def image_rows(count: int, seed: int) -> Rows:
    """Images whose brightness tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    images = torch.randn(count, 1, 8, 8, generator=generator) * 0.1 + labels[:, None, None, None] / 5 - 1
    return [{"pixel_values": image, "labels": label} for image, label in zip(images, labels, strict=True)]


def token_rows(count: int, seed: int) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(4, 64, (count, 8), generator=generator)
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row[0] % 2} for row in rows]


def text_rows(count: int, seed: int) -> Rows:
    return [{**row, "labels": row["input_ids"]} for row in token_rows(count, seed)]


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any], Callable[[int, int], Rows]]] = {
    "vit": (tiny_vit, {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier"]}, image_rows),
    "bert": (tiny_bert, {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}, token_rows),
    "llama": (tiny_llama, {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}, text_rows),
}
SIZES = (24, 16, 9)


def lora_model(case: str = "vit", **options: Any) -> PeftModel:
    make, lora, _ = CASES[case]
    torch.manual_seed(0)
    return get_peft_model(make(), LoraConfig(**({"r": 3, "lora_alpha": 6} | lora | options)))


def rows_of_clients(case: str = "vit") -> dict[str, Rows]:
    """Three clients of different sizes."""
    make_rows = CASES[case][2]
    return {f"clinic-{i}": make_rows(size, i) for i, size in enumerate(SIZES)}


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    settings = {
        "per_device_train_batch_size": 8,
        "learning_rate": 0.5,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
    }
    settings |= {"report_to": "none", "use_cpu": True, "disable_tqdm": True}
    return TrainingArguments(str(folder), **(settings | options))


def a_trainer(folder: Path, case: str = "vit", **options: Any) -> FederatedLoraTrainer:
    """A trainer of a case; options of the trainer by name, all others are those of [`FedSVDConfig`]."""
    names = ("callbacks", "eval_dataset", "client_eval_datasets", "client_datasets", "model", "args", "trainer_cls")
    given = {name: options.pop(name) for name in names if name in options}
    config = FedSVDConfig(**({"num_rounds": 2, "local_steps": 2, "client_fraction": 1.0} | options))
    own = {"model": lora_model(case), "args": arguments(folder), "client_datasets": rows_of_clients(case)}
    return FederatedLoraTrainer(**(own | given), config=config)


def logits(model: Any, case: str = "vit") -> torch.Tensor:
    rows = CASES[case][2](4, 99)
    batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0] if key != "labels"}
    with torch.no_grad():
        return model.eval()(**batch).logits
