# SPDX-License-Identifier: Apache-2.0
"""A small LoRA adapter on disk, with the record of a federated run beside it if wanted; no model is needed."""

import json
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from eigenhub.federated import DPConfig, FedSVDConfig


PREFIX = "base_model.model.encoder"


def lora_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Two layers of rank 4, the second one's B of rank 2, and a head."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    thin = draw(2, 12)
    return {
        f"{PREFIX}.0.lora_A.weight": draw(4, 16),
        f"{PREFIX}.0.lora_B.weight": draw(12, 4),
        f"{PREFIX}.1.lora_A.weight": draw(4, 12),
        f"{PREFIX}.1.lora_B.weight": draw(12, 2) @ thin[:, :4],
        "base_model.model.classifier.weight": draw(3, 12),
    }


def save_lora(folder: str | Path, weights: str = "adapter_model.safetensors", with_run: bool = False) -> Path:
    """Write the adapter; under a name that is not safetensors, the weights are pickled."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    LoraConfig(r=4, lora_alpha=8, target_modules=["0", "1"], base_model_name_or_path="tester/base").save_pretrained(
        folder
    )
    if weights.endswith(".safetensors"):
        save_file(lora_state(), folder / weights, metadata={"format": "pt", "author": "tester"})
    else:
        torch.save(lora_state(), folder / weights)
    if with_run:
        dp = DPConfig(target_epsilon=3.0, target_delta=1e-4, accountant="rdp")
        FedSVDConfig(method="ffa", num_rounds=5, dp=dp).save_pretrained(folder)
        (folder / "privacy_ledger.json").write_text(json.dumps(ledger(dp)))
    return folder


def ledger(dp: DPConfig) -> dict:
    """The privacy ledger of one client, with what it has spent written down: no accountant is asked."""
    plan = {"num_examples": 400, "sample_rate": 0.08, "steps_per_round": 10, "max_participations": 3}
    spent = {"noise_multiplier": 0.9, "participations": 2, "last_round": 4, "history": [[0.9, 0.08, 20]]}
    accounts = {"clinic": plan | spent}
    return {"claim": "", "epsilon": {"clinic": 2.5}, "format": 1, "config": dp.to_dict(), "clients": accounts}
