# SPDX-License-Identifier: Apache-2.0
"""Ids are bytes, for every text, also after a round trip through a folder."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from eigenhub.embedded.byte_tokenizer import byte_tokenizer


TOKENIZER = byte_tokenizer()


@given(st.text(max_size=200))
def test_ids_are_bytes(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assert bytes(ids) == text.encode()
    assert TOKENIZER.decode(ids) == text


def test_special_token_is_the_zero_byte() -> None:
    assert len(TOKENIZER) == 256
    assert (TOKENIZER.eos_token_id, TOKENIZER.pad_token_id) == (0, 0)
    assert TOKENIZER.decode([97, 0, 98], skip_special_tokens=True) == "ab"


def test_folder(tmp_path: Path) -> None:
    byte_tokenizer(max_length=77).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert bytes(loaded("naïve €\n\t<|end|>")["input_ids"]) == "naïve €\n\t<|end|>".encode()
    assert loaded.eos_token_id == 0
    assert loaded.model_max_length == 77
