# SPDX-License-Identifier: Apache-2.0
"""The embedded ViT: cached, loadable, and good at the digits it has seen."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageClassification

from eigenhub.embedded import vit
from eigenhub.embedded.digits import load_digits


def accuracy(model: torch.nn.Module, quarter_turns: int) -> float:
    columns = load_digits(quarter_turns)["test"][:]
    with torch.no_grad():
        guesses = model(pixel_values=columns["pixel_values"]).logits.argmax(-1)
    return (guesses == columns["labels"]).float().mean().item()


def test_pretrained_once_without_touching_the_global_generator(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.get_rng_state()
    folder = vit.pretrained_vit_folder(num_steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(vit, "fit", None)  # a second training would fail
    assert vit.pretrained_vit_folder(num_steps=2) == folder
    model = AutoModelForImageClassification.from_pretrained(folder)
    assert model.num_labels == 10
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    adapted = [name for name in linears if name.endswith(vit.TARGET_MODULES)]
    assert set(linears) - set(adapted) == {"classifier"}


def test_knows_turned_digits_only() -> None:
    model = AutoModelForImageClassification.from_pretrained(vit.pretrained_vit_folder()).eval()
    assert accuracy(model, quarter_turns=1) > 0.93
    assert accuracy(model, quarter_turns=0) < 0.3
