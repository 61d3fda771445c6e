# SPDX-License-Identifier: Apache-2.0
"""Batches of sentences without end: masked for a language model, with labels for a classifier."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerFast

from eigenhub.embedded.pretrain import endless_rows
from eigenhub.embedded.roberta_tokenizer import SPECIAL_TOKENS


#: Label of a token that is not asked for.
IGNORED = -100
MASKED_SHARE = 0.15


def masked_batches(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Sentences with 15 % of their tokens asked for: 80 % of those masked, 10 % replaced, 10 % left (BERT's rule).

    Args:
        texts (`Sequence[str]`): sentences, cut at the tokenizer's longest input.
        tokenizer (`PreTrainedTokenizerFast`): with the special tokens of RoBERTa at their places.
        batch_size (`int`): sentences per batch.
        seed (`int`): of the order and of the masks.
    """
    generator = torch.Generator().manual_seed(seed)
    for batch, _ in padded_batches(texts, tokenizer, batch_size, seed):
        labels, inputs = batch["input_ids"], batch["input_ids"].clone()
        asked = torch.rand(labels.shape, generator=generator) < MASKED_SHARE
        asked &= labels >= len(SPECIAL_TOKENS)
        if not asked.any():
            continue
        how = torch.rand(labels.shape, generator=generator)
        others = torch.randint(len(SPECIAL_TOKENS), len(tokenizer), labels.shape, generator=generator)
        inputs = inputs.masked_fill(asked & (how < 0.8), tokenizer.mask_token_id)
        inputs = torch.where(asked & (how >= 0.9), others, inputs)
        yield {
            "input_ids": inputs,
            "attention_mask": batch["attention_mask"],
            "labels": labels.masked_fill(~asked, IGNORED),
        }


def labelled_batches(
    texts: Sequence[str], labels: Sequence[int], tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Sentences with their classes.

    Args:
        texts (`Sequence[str]`): sentences, cut at the tokenizer's longest input.
        labels (`Sequence[int]`): one class per sentence.
        tokenizer (`PreTrainedTokenizerFast`): with the special tokens of RoBERTa at their places.
        batch_size (`int`): sentences per batch.
        seed (`int`): of the order.
    """
    classes = torch.tensor(list(labels))
    for batch, rows in padded_batches(texts, tokenizer, batch_size, seed):
        yield {**batch, "labels": classes[rows]}


def padded_batches(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int
) -> Iterator[tuple[BatchEncoding, Tensor]]:
    """Batches of sentences of about one length, which halves the padding, in random order; with their row numbers.

    Args:
        texts (`Sequence[str]`): sentences, cut at the tokenizer's longest input.
        tokenizer (`PreTrainedTokenizerFast`): with the special tokens of RoBERTa at their places.
        batch_size (`int`): sentences per batch.
        seed (`int`): of the order.
    """
    ids = tokenizer(list(texts), truncation=True)["input_ids"]
    batches = torch.tensor([len(row) for row in ids]).argsort(stable=True).split(batch_size)
    for number in endless_rows(len(batches), 1, seed):
        rows = batches[int(number)]
        yield tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt"), rows
