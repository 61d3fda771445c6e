# SPDX-License-Identifier: Apache-2.0
"""Tiny base models with trained-looking SORSA adapters, for folders and for the stand-in of the Hub."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from eigenhub.tuners.sorsa import SorsaConfig, SorsaLayer
from tests.support.models import tiny_llama, tiny_tokenizer, tiny_vit


TARGETS = ["q_proj", "v_proj"]


def adapted(model: Any, r: int = 4, seed: int = 0) -> PeftModel:
    """The model with an adapter whose factors have moved as if trained."""
    model = get_peft_model(model, SorsaConfig(r=r, target_modules=TARGETS))
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, SorsaLayer):
            for factor in (layer.sorsa_U, layer.sorsa_S, layer.sorsa_V):
                # enough to change the answers of a model with random weights
                factor["default"].data += 2 * torch.randn(factor["default"].shape, generator=generator)
    return model.eval()


def save_text_pair(folder: Path) -> tuple[Path, Path]:
    """Folders of a Llama with its tokenizer and of its adapter, which names the base by its folder."""
    base, adapter = folder / "llama", folder / "llama-sorsa"
    tiny_llama().save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    adapted(type(tiny_llama()).from_pretrained(base)).save_pretrained(adapter)
    return base, adapter


def save_image_pair(folder: Path, **overrides: Any) -> tuple[Path, Path]:
    """Folders of a ViT and of its adapter."""
    base, adapter = folder / "vit", folder / "vit-sorsa"
    model = tiny_vit(**overrides)
    model.save_pretrained(base)
    adapted(type(model).from_pretrained(base)).save_pretrained(adapter)
    return base, adapter


def save_lora(folder: Path) -> Path:
    get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=TARGETS)).save_pretrained(folder / "lora")
    return folder / "lora"


def push_text_pair(base: str, adapter: str) -> None:
    """Push a pair to the Hub; for a process whose `HF_ENDPOINT` is the stand-in."""
    tiny_llama().push_to_hub(base)
    tiny_tokenizer().push_to_hub(base)
    adapted(type(tiny_llama()).from_pretrained(base)).push_to_hub(adapter)
