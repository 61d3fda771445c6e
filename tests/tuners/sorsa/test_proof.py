# SPDX-License-Identifier: Apache-2.0
"""The method's claims on real data: upright digits to rotated ones, with and without the penalty, beside LoRA."""

import copy
import math

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from eigenhub.tuners.sorsa import SorsaConfig, apply_regularizer, spectrum_report
from tests.support.devices import require_package


TARGETS = ["0", "2", "4"]
SEEDS = (0, 1, 2)


class Digits:
    """scikit-learn's handwritten digits, upright and turned by 90 degrees, split once and for all."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        data = load_digits()
        order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
        images = torch.tensor(data.images, dtype=torch.float32)[order] / 16
        self.labels = torch.tensor(data.target)[order]
        self.upright = images.flatten(1)
        self.turned = images.rot90(1, (1, 2)).flatten(1)

    def batch(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(0, 1200, (64,), generator=generator)
        return images[rows], self.labels[rows]

    def accuracy(self, model: nn.Module, images: Tensor) -> float:
        with torch.no_grad():
            return (model(images[1200:]).argmax(1) == self.labels[1200:]).float().mean().item()


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


@pytest.fixture(scope="module")
def base(digits: Digits) -> nn.Module:
    """An MLP of 64-256-256-256-10 trained on upright digits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = [64, 256, 256, 256, 10]
        layers = [layer for m, n in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(m, n), nn.ReLU())][:-1]
        model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(400):
        images, labels = digits.batch(digits.upright, generator)
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert digits.accuracy(model, digits.upright) > 0.95
    assert digits.accuracy(model, digits.turned) < 0.25
    return model


def adapt(base: nn.Module, digits: Digits, config: PeftConfig, lr: float, seed: int) -> tuple[PeftModel, list[float]]:
    """200 AdamW steps with a cosine schedule, clipped; the losses of all steps."""
    torch.manual_seed(seed)
    model = get_peft_model(copy.deepcopy(base), copy.deepcopy(config))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / 200)))
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(200):
        images, labels = digits.batch(digits.turned, generator)
        loss = cross_entropy(model(images), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        if isinstance(config, SorsaConfig):
            apply_regularizer(model)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model.eval(), losses


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.fixture(scope="module")
def runs(base: nn.Module, digits: Digits) -> dict[str, dict[str, float]]:
    """Means over seeds at rank 16; LoRA at the best of the rates around its own optimum."""
    methods: dict[str, tuple[PeftConfig, list[float]]] = {
        "lora": (LoraConfig(r=16, lora_alpha=16, target_modules=TARGETS), [3e-3, 1e-2, 3e-2]),
        "sorsa without": (SorsaConfig(r=16, target_modules=TARGETS, reg_weight=0.0), [1e-2]),
        "sorsa": (SorsaConfig(r=16, target_modules=TARGETS, reg_weight=1.0), [1e-2]),
    }
    return {
        name: min((summary(base, digits, config, lr) for lr in rates), key=lambda found: found["final"])
        for name, (config, rates) in methods.items()
    }


def summary(base: nn.Module, digits: Digits, config: PeftConfig, lr: float) -> dict[str, float]:
    ends = [adapt(base, digits, config, lr, seed) for seed in SEEDS]
    found = {
        "early": mean([mean(losses[40:60]) for _, losses in ends]),
        "final": mean([mean(losses[-20:]) for _, losses in ends]),
        "accuracy": mean([digits.accuracy(model, digits.turned) for model, _ in ends]),
    }
    if isinstance(config, SorsaConfig):
        reports = [spectrum_report(model) for model, _ in ends]
        found["kappa"] = mean([spectrum.kappa for report in reports for spectrum in report.values()])
        found["penalty"] = mean([mean(list(model.base_model.orthonormality().values())) for model, _ in ends])
    return found


@pytest.mark.slow
@require_package("sklearn")
def test_claims(runs):
    """Orthonormality is kept by the penalty, the block is better conditioned, and early training is faster than LoRA's."""
    assert runs["sorsa"]["penalty"] < 0.01 and runs["sorsa without"]["penalty"] > 1.0
    assert runs["sorsa"]["kappa"] <= 0.5 * runs["sorsa without"]["kappa"]
    assert runs["sorsa"]["early"] <= 0.6 * runs["lora"]["early"]
    assert runs["sorsa"]["accuracy"] > 0.95
