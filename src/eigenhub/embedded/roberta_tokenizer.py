# SPDX-License-Identifier: Apache-2.0
"""A small tokenizer with the special tokens of RoBERTa at their places, trained on given text."""

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


BEGIN, PAD, END, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
#: In this order, so that they have the ids that RoBERTa's configuration takes for granted; the mask comes behind them.
SPECIAL_TOKENS = (BEGIN, PAD, END, UNKNOWN, MASK)


def train_roberta_tokenizer(
    texts: Iterable[str], vocab_size: int = 4096, max_length: int = 64
) -> PreTrainedTokenizerFast:
    """
    A byte-level BPE tokenizer that writes `<s> text </s>` and, for two texts, `<s> first </s></s> second </s>`.

    A word is the same token at the beginning of a text and inside of it.

    Args:
        texts (`Iterable[str]`): what to learn the merges from.
        vocab_size (`int`, *optional*, defaults to 4096): upper limit, at least 261 (the bytes and five special tokens).
        max_length (`int`, *optional*, defaults to 64): `model_max_length` of the tokenizer.

    Example:

    ```python
    >>> from eigenhub.embedded.roberta_tokenizer import train_roberta_tokenizer

    >>> tokenizer = train_roberta_tokenizer(["a gem of a film"] * 2, vocab_size=300)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("film <mask>")["input_ids"])
    ['<s>', 'Ġfilm', '<mask>', '</s>']
    ```
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(alphabet) + len(SPECIAL_TOKENS)
    if vocab_size < least:
        raise ValueError(f"`vocab_size` must be at least {least}, got {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIAL_TOKENS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}",
        pair=f"{BEGIN} $A {END} {END} $B {END}",
        special_tokens=[(token, SPECIAL_TOKENS.index(token)) for token in (BEGIN, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        cls_token=BEGIN,
        eos_token=END,
        sep_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        mask_token=AddedToken(MASK, lstrip=True),
        model_max_length=max_length,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )
