# SPDX-License-Identifier: Apache-2.0
"""The byte-level Llama and its text: the same tokens as the tokenizer's, the same weights for a seed, trained once."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eigenhub.embedded import byte_llama
from eigenhub.embedded.byte_llama import byte_batches, byte_blocks, new_byte_llama, pretrained_byte_llama_folder
from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.embedded.python_sources import load_python_sources
from eigenhub.training.packing import first_blocks


@pytest.mark.parametrize(("split", "block"), [("train", 128), ("test", 50)])
def test_blocks_are_what_the_tokenizer_and_the_packer_make(split: str, block: int) -> None:
    """Over more than the first file, so that the byte between two files counts."""
    texts = load_python_sources()[split]["text"]
    count = len(texts[0].encode()) // block + 20
    expected = torch.tensor(first_blocks(texts, byte_tokenizer(), block, count))
    blocks = byte_blocks(split, block)
    assert blocks.dtype == torch.int64 and torch.equal(blocks[:count], expected)
    size = sum(len(text.encode()) + 1 for text in texts)
    assert blocks.shape == (size // block, block)


def test_batches_are_rows_of_the_training_text_in_the_order_of_the_seed() -> None:
    first, again, other = (next(byte_batches(4, seed)) for seed in (0, 0, 1))
    assert first.shape == (4, 128) and torch.equal(first, again) and not torch.equal(first, other)
    assert all((byte_blocks() == row).all(1).any() for row in first)


def test_a_seed_gives_the_weights_and_spends_no_random_numbers() -> None:
    state = torch.get_rng_state()
    first, again, other = (new_byte_llama(seed).model.layers[0].mlp.up_proj.weight for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_pretrained_once_per_recipe(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pretrained_byte_llama_folder(num_steps=4)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer("def")["input_ids"] == [100, 101, 102]
    rows = byte_blocks("test")[:8]
    with torch.no_grad():
        trained, fresh = (m(input_ids=rows, labels=rows).loss.item() for m in (model, new_byte_llama()))
    assert trained < fresh - 0.1
    monkeypatch.setattr(byte_llama, "fit", lambda *_: None)
    assert pretrained_byte_llama_folder(num_steps=4) == folder
    assert pretrained_byte_llama_folder(num_steps=5) != folder
