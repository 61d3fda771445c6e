# SPDX-License-Identifier: Apache-2.0
"""The tiny Llama that adapters, optimizers and protocols are tried on, and what all of them do with it."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from tests.capabilities.compare import check_differs, check_equal
from tests.capabilities.training import ALL
from tests.common.tuner_quantized import QUANTIZATION, quantized_llama
from tests.support.data import counting_rows
from tests.support.models import tiny_llama, tiny_tokenizer


BLOCKS = ("LlamaDecoderLayer",)
TARGETS = ["q_proj", "down_proj"]
#: Rows of four: two for each of two processes.
TOKENS = torch.tensor(counting_rows(4, length=8))
PROMPT = {"input_ids": TOKENS[:2, :4], "attention_mask": torch.ones(2, 4, dtype=torch.long)}


def llama(**overrides: Any) -> Any:
    """In training mode, the same every time; weights large enough that an adapter changes the loss."""
    return tiny_llama(**({"initializer_range": 0.3} | overrides)).train()


def language_loss(model: nn.Module, rows: slice = ALL) -> Tensor:
    return model(input_ids=TOKENS[rows], labels=TOKENS[rows]).loss


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model.eval()(input_ids=TOKENS).logits


def with_lora(model: Any, **overrides: Any) -> PeftModel:
    """Stock PEFT's LoRA, the same every time, its B away from zero."""
    settings = {"r": 2, "target_modules": TARGETS, "task_type": "CAUSAL_LM", "init_lora_weights": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return get_peft_model(model, LoraConfig(**(settings | overrides)))


def quantized_bases(folder: Path) -> dict[str, Any]:
    """The Llama in 8 and in 4 bits; the latter before any inference, after which its CPU kernel has no backward."""
    llama(hidden_size=64, intermediate_size=64, initializer_range=0.1).save_pretrained(folder / "dense")
    return {kind: quantized_llama(folder / "dense", kind).train() for kind in QUANTIZATION}


def save_llama(folder: Path) -> Path:
    """The Llama with a tokenizer, for scripts."""
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_prompts(path: Path, count: int = 16) -> Path:
    """Prompts and responses in the words of the tokenizer, for scripts."""
    row = json.dumps({"prompt": "the cat sat on", "response": "the mat"})
    path.write_text(f"{row}\n" * count)
    return path


def check_generates(model: Any, count: int = 5) -> None:
    """Raise unless `generate` gives `count` tokens, the same with and without cache."""
    model.eval()
    settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "pad_token_id": 1}
    cached = model.generate(**PROMPT, **settings)
    if cached.shape != (2, PROMPT["input_ids"].shape[1] + count):
        raise AssertionError(f"{count} new tokens were asked for, generate gave the shape {tuple(cached.shape)}")
    plain = model.generate(**PROMPT, **settings, use_cache=False)
    check_equal({"tokens": plain}, {"tokens": cached}, "generated without cache")


def check_adapter_reloads(model: PeftModel, base: Any, folder: Path) -> None:
    """Raise unless the saved adapter does the same on a fresh base, and something that the base alone does not."""
    model.save_pretrained(folder)
    expected = logits(model)
    check_differs(logits(base), expected, "the adapter does nothing")
    check_equal(
        {"logits": logits(PeftModel.from_pretrained(base, folder))}, {"logits": expected}, "the loaded adapter"
    )
