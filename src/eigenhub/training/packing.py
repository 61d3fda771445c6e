# SPDX-License-Identifier: Apache-2.0
"""Documents in a row, each with an end token after it, cut into blocks of equal length."""

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase


class Packer:
    """
    Turns texts into blocks of tokens.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): needs an end-of-sequence token.
        block (`int`): tokens per block.
        rest (`Iterable[int]`, *optional*, defaults to `()`): tokens left over by an earlier packer.

    Attributes:
        rest (`list[int]`): tokens that have not been cut off yet.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, block: int, rest: Iterable[int] = ()) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end-of-sequence token to put between documents")
        self.tokenizer = tokenizer
        self.block = block
        self.rest = list(rest)

    def add(self, texts: Sequence[str]) -> None:
        """Takes in documents."""
        # verbose=False: a document longer than the model's window is the normal case here
        for ids in self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]:
            self.rest += [*ids, self.tokenizer.eos_token_id]

    def full_blocks(self) -> int:
        """Number of blocks that can be cut off."""
        return len(self.rest) // self.block

    def cut(self, count: int) -> list[list[int]]:
        """The first `count` blocks; they are gone from `rest` then."""
        end = count * self.block
        blocks = [self.rest[begin : begin + self.block] for begin in range(0, end, self.block)]
        del self.rest[:end]
        return blocks


def first_blocks(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, block: int, count: int) -> list[list[int]]:
    """
    The first `count` blocks of a text, or as many as it has.

    Args:
        texts (`Iterable[str]`): documents, read only as far as needed.
        tokenizer (`PreTrainedTokenizerBase`): needs an end-of-sequence token.
        block (`int`): tokens per block.
        count (`int`): number of blocks.
    """
    packer = Packer(tokenizer, block)
    for text in texts:
        packer.add([text])
        if packer.full_blocks() >= count:
            break
    if packer.full_blocks() == 0:
        raise ValueError(f"the text is shorter than one block of {block} tokens")
    return packer.cut(min(count, packer.full_blocks()))
