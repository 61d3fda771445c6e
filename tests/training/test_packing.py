# SPDX-License-Identifier: Apache-2.0
"""Packing loses and repeats nothing, wherever the documents end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.training.packing import Packer, first_blocks


TOKENIZER = byte_tokenizer()


@given(st.lists(st.lists(st.text("ab", max_size=30), max_size=4), max_size=5), st.integers(1, 16))
def test_blocks_and_rest_are_the_text(calls: list[list[str]], block: int) -> None:
    packer = Packer(TOKENIZER, block)
    blocks = []
    for texts in calls:
        if texts:
            packer.add(texts)
        blocks += packer.cut(packer.full_blocks())
    assert all(len(ids) == block for ids in blocks)
    assert len(packer.rest) < block
    whole = b"".join(text.encode() + b"\0" for texts in calls for text in texts)
    assert bytes([token for ids in blocks for token in ids] + packer.rest) == whole


def test_a_packer_continues_another() -> None:
    first = Packer(TOKENIZER, 4)
    first.add(["abcdef"])
    assert first.cut(1) == [list(b"abcd")]
    second = Packer(TOKENIZER, 4, first.rest)
    second.add(["g"])
    assert second.cut(1) == [list(b"ef\0g")]


def test_first_blocks_reads_only_what_it_needs() -> None:
    def texts():
        yield "abcd"
        yield "efgh"
        raise AssertionError("read on")

    assert first_blocks(texts(), TOKENIZER, 4, 2) == [list(b"abcd"), list(b"\0efg")]


def test_first_blocks_takes_what_there_is() -> None:
    assert len(first_blocks(["abcdefgh"], TOKENIZER, 4, 100)) == 2
    with pytest.raises(ValueError, match="shorter than one block of 16"):
        first_blocks(["abc"], TOKENIZER, 16, 1)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="end-of-sequence"):
        Packer(tokenizer, 4)
