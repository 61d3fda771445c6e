# SPDX-License-Identifier: Apache-2.0
"""Masked prompts and packed text."""

import pytest
from datasets import Dataset

from eigenhub.embedded.tokenizer import train_tokenizer
from eigenhub.training.accumulation import IGNORED
from eigenhub.training.text_source import TextColumns
from eigenhub.training.tokenization import tokenize


PAIRS = TextColumns("question", "answer")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["question one answer two"] * 5, vocab_size=300)


def pairs(*rows: tuple[str, str]) -> Dataset:
    return Dataset.from_list([{"question": question, "answer": answer} for question, answer in rows])


def test_loss_is_on_the_response_and_its_end(tokenizer) -> None:
    (row,) = tokenize(pairs(("how many?", "42 of them")), tokenizer, PAIRS, 64, "Q: {prompt}\nA:")
    assert tokenizer.decode(row["input_ids"]) == "Q: how many?\nA:42 of them<|end|>"
    learned = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert tokenizer.decode(learned) == "42 of them<|end|>"
    assert [label for label in row["labels"] if label != IGNORED] == learned


def test_whole_row_is_cut(tokenizer) -> None:
    prompt_length = len(tokenizer("12345\n")["input_ids"])
    (row,) = tokenize(pairs(("12345", "67890")), tokenizer, PAIRS, prompt_length + 2)
    assert tokenizer.decode(row["input_ids"]) == "12345\n67"
    assert row["labels"] == [IGNORED] * prompt_length + row["input_ids"][-2:]


def test_parts_are_cut_separately(tokenizer) -> None:
    (row,) = tokenize(pairs(("12345", "67890")), tokenizer, PAIRS, 3, "{prompt}", each_part=True)
    assert tokenizer.decode(row["input_ids"]) == "123678"
    assert row["labels"] == [IGNORED] * 3 + row["input_ids"][3:]


def test_rows_without_labels_are_dropped(tokenizer) -> None:
    rows = tokenize(pairs(("1234567890", "1"), ("1", "2")), tokenizer, PAIRS, 6)
    assert [tokenizer.decode(row["input_ids"]) for row in rows] == ["1\n2<|end|>"]
    with pytest.raises(ValueError, match="no response begins within max_length=6"):
        tokenize(pairs(("1234567890", "1")), tokenizer, PAIRS, 6)


def test_prompt_that_the_tokenizer_closes_is_opened_again() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_tokenizer(["question one"] * 5, vocab_size=300)
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", end)]
    )
    assert tokenizer("1")["input_ids"][-1] == end
    (row,) = tokenize(pairs(("1", "2")), tokenizer, PAIRS, 16, "{prompt}")
    assert tokenizer.decode(row["input_ids"]) == "12<|end|>"


def test_plain_text_is_packed_without_loss_or_padding(tokenizer) -> None:
    texts = [f"question {number} one" for number in range(2500)]  # more than one read of a thousand
    packed = tokenize(Dataset.from_dict({"text": texts}), tokenizer, TextColumns(text="text"), 32)
    stream = [token for text in texts for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    assert [token for row in packed for token in row["input_ids"]] == stream[: len(stream) // 32 * 32]
    assert all(len(row["input_ids"]) == 32 and row["labels"] == row["input_ids"] for row in packed)


def test_text_shorter_than_a_block(tokenizer) -> None:
    with pytest.raises(ValueError, match="shorter than one block of 512"):
        tokenize(Dataset.from_dict({"text": ["one"]}), tokenizer, TextColumns(text="text"), 512)


def test_tokenizer_without_an_end(tokenizer) -> None:
    endless = train_tokenizer(["one"], vocab_size=300)
    endless.eos_token = None
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        tokenize(pairs(("1", "2")), endless, PAIRS, 16)
