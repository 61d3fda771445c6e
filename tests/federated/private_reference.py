# SPDX-License-Identifier: Apache-2.0
"""Private training written out slowly: gradients of one example at a time, clipped and added by hand."""

from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from eigenhub.federated.dp_config import DPConfig
from eigenhub.federated.private_training import PrivateRun, train_privately
from tests.support.models import tiny_bert


EXAMPLES = 12
DP_SETTINGS = {"max_grad_norm", "grad_sample_mode", "physical_batch_size", "expected_batch_size", "seed"}


def token_data(examples: int = EXAMPLES, length: int = 6, classes: int = 3) -> Dataset:
    """Random rows of tokens with classes."""
    generator = torch.Generator().manual_seed(7)
    rows = torch.randint(4, 60, (examples, length), generator=generator)
    return Dataset.from_dict({"input_ids": rows.tolist(), "labels": [row % classes for row in range(examples)]})


def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Rows of one length as tensors."""
    return {key: torch.tensor([example[key] for example in examples]) for key in examples[0]}


def lora_model(base: nn.Module | None = None, seed: int = 3, **settings: Any) -> PeftModel:
    """A tiny classifier with LoRA, whose B is trained and not zero: zero B hides errors of A's side."""
    config = LoraConfig(**({"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"]} | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(base if base is not None else tiny_bert(num_labels=3), config)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_B" in name or "modules_to_save" in name)
            if "lora_B" in name:
                parameter.data.normal_(std=0.3)
    return model


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


def run_privately(model: nn.Module, dataset: Any = None, **settings: Any) -> PrivateRun:
    """[`train_privately`] with every example in every batch, no noise and no clipping unless told otherwise."""
    dp = {"target_epsilon": None, "target_delta": 1e-3, "noise_multiplier": 0.0, "max_grad_norm": 1e6, "seed": 0}
    dp |= {name: settings.pop(name) for name in DP_SETTINGS & settings.keys()}
    arguments = {"noise_multiplier": 0.0, "num_steps": 1, "batch_size": EXAMPLES, "device": "cpu"} | settings
    arguments = {"data_collator": collate, "optimizer_factory": sgd} | arguments
    return train_privately(model, dataset if dataset is not None else token_data(), dp=DPConfig(**dp), **arguments)


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def example_gradients(model: nn.Module, dataset: Any = None) -> dict[str, Tensor]:
    """Gradients `[examples, ...]` of the model's own loss, by one backward pass for each example."""
    rows: dict[str, list[Tensor]] = {}
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for example in dataset if dataset is not None else token_data():
        gradients = torch.autograd.grad(model(**collate([example])).loss, list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            rows.setdefault(name, []).append(gradient)
    return {name: torch.stack(gradients) for name, gradients in rows.items()}


def clipped_mean(gradients: dict[str, Tensor], max_norm: float) -> dict[str, Tensor]:
    """Mean of the gradients of all examples, each scaled to norm `max_norm` if it is longer."""
    rows = torch.cat([gradient.double().flatten(1) for gradient in gradients.values()], dim=1)
    scale = (max_norm / rows.norm(dim=1)).clamp(max=1.0)
    return {name: torch.einsum("n,n...->...", scale, g.double()) / len(scale) for name, g in gradients.items()}
