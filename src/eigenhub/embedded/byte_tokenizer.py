# SPDX-License-Identifier: Apache-2.0
"""A tokenizer of 256 tokens, one per byte: nothing to train, and every text and every model size can use it."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode


def byte_tokenizer(max_length: int = 1024) -> PreTrainedTokenizerFast:
    """
    A tokenizer whose ids are the bytes of the UTF-8 text; the byte 0, which no text holds, ends a document and pads.

    Args:
        max_length (`int`, *optional*, defaults to 1024): `model_max_length` of the tokenizer.

    Example:

    ```python
    >>> from eigenhub.embedded.byte_tokenizer import byte_tokenizer

    >>> byte_tokenizer()("def")["input_ids"]
    [100, 101, 102]
    ```
    """
    letters = bytes_to_unicode()  # the printable character that stands for each byte
    vocabulary = {letters[byte]: byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = letters[0]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=end, model_max_length=max_length, padding_side="right"
    )
