# SPDX-License-Identifier: Apache-2.0
"""Pushes a Llama, a model with its own code and a LoRA adapter, and prints what each computes."""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from tests.support.models import tiny_llama, tiny_tokenizer


INPUTS = torch.tensor([[4, 5, 6, 7]])
OWN_CODE = """
import torch
from transformers import PreTrainedConfig, PreTrainedModel


class ScaleConfig(PreTrainedConfig):
    model_type = "scale_of_the_tests"
    size: int = 3


class ScaleModel(PreTrainedModel):
    config: ScaleConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.arange(1.0, config.size + 1))
        self.post_init()

    def forward(self, x):
        return x * self.scale
"""


def push_own_code(repo: str) -> None:
    Path("scale_code.py").write_text(OWN_CODE)
    sys.path.insert(0, ".")
    from scale_code import ScaleConfig, ScaleModel

    ScaleConfig.register_for_auto_class()
    ScaleModel.register_for_auto_class("AutoModel")
    ScaleModel(ScaleConfig()).push_to_hub(repo)


def push_adapter(repo: str, base: str) -> torch.Tensor:
    model = tiny_llama()
    model.config._name_or_path = model.name_or_path = base
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
    model.push_to_hub(repo)
    return model(INPUTS).logits


with torch.no_grad():
    llama = tiny_llama()
    llama.push_to_hub("tester/llama")
    tiny_tokenizer().push_to_hub("tester/llama")
    push_own_code("tester/scale")
    adapted = push_adapter("tester/adapter", base="tester/llama")
    print(json.dumps({"llama": llama(INPUTS).logits.sum().item(), "adapter": adapted.sum().item()}))
