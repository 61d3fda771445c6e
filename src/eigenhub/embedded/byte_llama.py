# SPDX-License-Identifier: Apache-2.0
"""A small Llama over bytes and its text, the sources of Python's standard library: what the optimizers race on."""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.llama_sizes import llama_config
from eigenhub.embedded.pretrain import endless_rows, fit
from eigenhub.embedded.python_sources import load_python_sources


SIZE = "llama_bytes_tiny"
BLOCK = 128


@cache
def byte_blocks(split: str = "train", block: int = BLOCK) -> Tensor:
    """
    The sources of Python's standard library as rows of bytes, one file after the other with a zero byte behind each.

    These are the tokens of [`byte_tokenizer`], which would need seconds for them. The tensor is shared: do not write to it.

    Args:
        split (`str`, *optional*, defaults to `"train"`): `"train"` or `"test"`.
        block (`int`, *optional*, defaults to 128): bytes per row; what does not fill a row at the end is left out.

    Returns:
        `Tensor` of shape `(blocks, block)`, int64.
    """
    text = "".join(text + "\0" for text in load_python_sources()[split]["text"])
    tokens = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return tokens[: len(tokens) // block * block].view(-1, block).long()


def byte_batches(batch_size: int, seed: int = 0) -> Iterator[Tensor]:
    """
    Training rows without end, in an order of their own for every seed.

    Args:
        batch_size (`int`): rows of 128 bytes per batch.
        seed (`int`, *optional*, defaults to 0): seed of the order.
    """
    blocks = byte_blocks()
    return (blocks[rows] for rows in endless_rows(len(blocks), batch_size, seed))


def new_byte_llama(seed: int = 0) -> LlamaForCausalLM:
    """
    The untrained model, half a million parameters; the caller's random generator is left as it was.

    Args:
        seed (`int`, *optional*, defaults to 0): seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(llama_config(SIZE, byte_tokenizer(), BLOCK))


def pretrained_byte_llama_folder(num_steps: int = 150, batch_size: int = 8, lr: float = 3e-3, seed: int = 0) -> Path:
    """
    Folder of the trained model and its tokenizer, for `from_pretrained`; trained now if it is not in the cache.

    Args:
        num_steps (`int`, *optional*, defaults to 150): optimizer steps.
        batch_size (`int`, *optional*, defaults to 8): rows of 128 bytes per step.
        lr (`float`, *optional*, defaults to 3e-3): peak learning rate of AdamW.
        seed (`int`, *optional*, defaults to 0): seed of the weights and of the order of the text.
    """
    recipe = {
        # another Python has another library
        "text": hashlib.sha256(byte_blocks().numpy().tobytes()).hexdigest(),
        "num_steps": num_steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
    }

    def build(folder: Path) -> None:
        model = new_byte_llama(seed)
        batches = ({"input_ids": rows, "labels": rows} for rows in byte_batches(batch_size, seed))
        fit(model, batches, num_steps, lr, "pretraining the embedded byte-level Llama")
        byte_tokenizer().save_pretrained(folder)
        model.save_pretrained(folder)

    return cached_folder("llama-bytes", recipe, build)
