# SPDX-License-Identifier: Apache-2.0
"""A small Llama and its tokenizer, pretrained on given text on the spot and kept in the cache."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from eigenhub.embedded.arithmetic import load_problems
from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.pretrain import endless_rows, fit
from eigenhub.embedded.tokenizer import train_tokenizer


MAX_LENGTH = 512
BLOCK = 128
#: The linear layers that the published experiments adapt.
TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def small_llama_config(tokenizer: PreTrainedTokenizerFast, hidden_size: int = 128, num_layers: int = 2) -> LlamaConfig:
    """A Llama of a few hundred thousand parameters with the special tokens of the tokenizer."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def pretrained_llama_folder(
    texts: Sequence[str] | None = None,
    vocab_size: int = 1024,
    num_steps: int = 300,
    batch_size: int = 16,
    lr: float = 3e-3,
    seed: int = 0,
) -> Path:
    """
    Folder of a [`LlamaForCausalLM`] and its tokenizer, pretrained on text, for `from_pretrained`.

    Args:
        texts (`Sequence[str]`, *optional*):
            What to pretrain on. Defaults to generated addition problems, see [`load_problems`].
        vocab_size (`int`, *optional*, defaults to 1024): upper limit of the tokenizer's vocabulary.
        num_steps (`int`, *optional*, defaults to 300): optimizer steps of pretraining.
        batch_size (`int`, *optional*, defaults to 16): blocks of 128 tokens per step.
        lr (`float`, *optional*, defaults to 3e-3): peak learning rate of AdamW.
        seed (`int`, *optional*, defaults to 0): seed of the weights and of the order of the text.
    """
    texts = addition_texts() if texts is None else list(texts)
    recipe = {
        "text": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
        "vocab_size": vocab_size,
        "num_steps": num_steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
    }

    def build(folder: Path) -> None:
        tokenizer = train_tokenizer(texts, vocab_size, MAX_LENGTH)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(small_llama_config(tokenizer))
            fit(model, _batches(texts, tokenizer, batch_size, seed), num_steps, lr, "pretraining the embedded Llama")
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)

    return cached_folder("llama-text", recipe, build)


def addition_texts() -> list[str]:
    """The generated addition problems as plain text, question and answer on lines of their own."""
    return [f"{row['question']}\n{row['answer']}" for row in load_problems("add")["train"]]


def _batches(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    stream = [token for ids in tokenizer(list(texts))["input_ids"] for token in [*ids, tokenizer.eos_token_id]]
    if len(stream) < BLOCK:
        raise ValueError(f"pretraining needs at least {BLOCK} tokens of text, got {len(stream)}")
    num_blocks = len(stream) // BLOCK
    blocks = torch.tensor(stream[: num_blocks * BLOCK]).view(num_blocks, BLOCK)  # [blocks, tokens]
    for rows in endless_rows(num_blocks, batch_size, seed):
        yield {"input_ids": blocks[rows], "labels": blocks[rows]}
