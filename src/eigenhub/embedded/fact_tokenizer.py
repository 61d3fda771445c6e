# SPDX-License-Identifier: Apache-2.0
"""A tokenizer with one token per word of the world of facts."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from eigenhub.embedded.fact_words import all_words


PAD, UNKNOWN_WORD, EOS = "<pad>", "<unk>", "<eos>"


def fact_tokenizer(max_length: int = 32) -> PreTrainedTokenizerFast:
    """
    A tokenizer of whole words: a question is five tokens, an answer one.

    Words of no fact become `<unk>`. Nothing is appended; answers get their end where they are learnt.

    Args:
        max_length (`int`, *optional*, defaults to 32): `model_max_length` of the tokenizer.

    Example:

    ```python
    >>> from eigenhub.embedded.fact_tokenizer import fact_tokenizer

    >>> fact_tokenizer().tokenize("Ada Brook lives in :")
    ['Ada', 'Brook', 'lives', 'in', ':']
    ```
    """
    vocabulary = {token: number for number, token in enumerate([PAD, UNKNOWN_WORD, EOS, *all_words()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_WORD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN_WORD,
        eos_token=EOS,
        model_max_length=max_length,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )
