# SPDX-License-Identifier: Apache-2.0
"""A small byte-level BPE tokenizer trained on given text; each digit is a token of its own."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast


PAD, END = "<|pad|>", "<|end|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1024, max_length: int = 512) -> PreTrainedTokenizerFast:
    """
    Trains a tokenizer that can write every string: unknown characters fall back to bytes.

    Digits are kept apart because a model can only calculate with numbers that are spelled the same way everywhere.

    Args:
        texts (`Iterable[str]`): what to learn the merges from.
        vocab_size (`int`, *optional*, defaults to 1024): upper limit, at least 258 (the bytes and two special tokens).
        max_length (`int`, *optional*, defaults to 512): `model_max_length` of the tokenizer.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + 2:
        raise ValueError(f"`vocab_size` must be at least {len(alphabet) + 2}, got {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, END], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=max_length, padding_side="right"
    )
