# SPDX-License-Identifier: Apache-2.0
"""The embedded tokenizer and Llama, made from given text, and the names that lead to them."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eigenhub.embedded import llama
from eigenhub.embedded.text import language_model, text_rows
from eigenhub.embedded.tokenizer import END, PAD, train_tokenizer
from eigenhub.training.text_source import TextColumns
from tests.support.data import TEXTS


def test_tokenizer_writes_every_string_and_splits_digits() -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=300)
    assert len(tokenizer) <= 300
    for text in (*TEXTS, "unseen Ünïcode 🙂 <<12+30=42>>", ""):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("2042")["input_ids"]) == 4
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, END)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_tokenizer_needs_room_for_the_bytes() -> None:
    with pytest.raises(ValueError, match="at least 258, got 100"):
        train_tokenizer(TEXTS, vocab_size=100)


def test_pretrained_once_per_text(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    texts = TEXTS * 20
    folder = llama.pretrained_llama_folder(texts, vocab_size=300, num_steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    monkeypatch.setattr(llama, "fit", lambda *_: None)
    assert llama.pretrained_llama_folder(texts, vocab_size=300, num_steps=2) == folder
    assert llama.pretrained_llama_folder([*texts, "more"], vocab_size=300, num_steps=2) != folder


def test_pretraining_needs_a_block_of_text(empty_cache: Path) -> None:
    with pytest.raises(ValueError, match="at least 128 tokens of text"):
        llama.pretrained_llama_folder(["short"], vocab_size=300, num_steps=2)


def test_embedded_names(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = text_rows("embedded", "test")
    assert "gives away" in rows[0]["question"]
    columns = TextColumns("question", "answer")
    assert language_model("some/model", "embedded", rows, columns) == "some/model"
    asked: list = []
    monkeypatch.setattr("eigenhub.embedded.text.pretrained_llama_folder", lambda *texts: asked.append(texts))
    language_model("embedded", "embedded", rows, columns)
    language_model("embedded", "data.jsonl", rows.take(1), columns)
    assert asked == [(), ([rows[0]["question"]],)]
