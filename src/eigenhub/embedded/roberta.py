# SPDX-License-Identifier: Apache-2.0
"""A small RoBERTa and its tokenizer, pretrained on given sentences on the spot and kept in the cache."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
)
from transformers.modeling_outputs import MaskedLMOutput

from eigenhub.embedded.cache import cached_folder
from eigenhub.embedded.pretrain import fit
from eigenhub.embedded.roberta_tokenizer import train_roberta_tokenizer
from eigenhub.embedded.sentence_batches import IGNORED, labelled_batches, masked_batches


MAX_LENGTH = 64
#: The linear layers that the FedSVD paper adapts.
TARGET_MODULES = ("query", "value")


def small_roberta_config(
    tokenizer: PreTrainedTokenizerFast, hidden_size: int = 64, num_layers: int = 2, num_labels: int = 2
) -> RobertaConfig:
    """
    A RoBERTa of some 200,000 parameters.

    Its weights begin at 0.64 over the square root of the width, which is 0.02 for the width of roberta-large: a random
    classification head then gives logits of the size that it gives there, where 0.02 would leave it without a gradient.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): gives the size of the vocabulary and the special tokens.
        hidden_size (`int`, *optional*, defaults to 64): width, a multiple of 4.
        num_layers (`int`, *optional*, defaults to 2): number of layers.
        num_labels (`int`, *optional*, defaults to 2): classes of a classification head.
    """
    return RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH + 2,  # positions count from the id of the padding plus one
        type_vocab_size=1,
        initializer_range=0.64 / math.sqrt(hidden_size),
        layer_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        num_labels=num_labels,  # type: ignore[call-arg]  # a property of every configuration
    )


def pretrained_roberta_folder(
    texts: Sequence[str],
    labels: Sequence[int] | None = None,
    labelled_texts: Sequence[str] | None = None,
    keep_head: bool = True,
    vocab_size: int = 4096,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_steps: int = 500,
    head_steps: int = 400,
    batch_size: int = 32,
    lr: float = 2e-3,
    seed: int = 0,
) -> Path:
    """
    Folder of a small RoBERTa and its tokenizer, pretrained as a masked language model, for `from_pretrained`. Made in less than a minute on one core.

    `AutoModelForSequenceClassification.from_pretrained(folder)` puts a new random head on it. With `labels`, a classifier
    is trained on some labelled sentences afterwards, such as a part of the data that is public, and the folder holds it
    with its head, or its encoder alone for a new random head on features that know of the classes.

    Args:
        texts (`Sequence[str]`): sentences without labels, for the tokenizer and the masked language model.
        labels (`Sequence[int]`, *optional*): classes from 0 of `labelled_texts`.
        labelled_texts (`Sequence[str]`, *optional*): with `labels`; by default `texts`.
        keep_head (`bool`, *optional*, defaults to `True`): with `labels`, also save the classification head.
        vocab_size (`int`, *optional*, defaults to 4096): upper limit of the tokenizer's vocabulary.
        hidden_size (`int`, *optional*, defaults to 64): width, a multiple of 4.
        num_layers (`int`, *optional*, defaults to 2): number of layers.
        num_steps (`int`, *optional*, defaults to 500): steps of masked language modelling.
        head_steps (`int`, *optional*, defaults to 400): steps on the labelled sentences.
        batch_size (`int`, *optional*, defaults to 32): sentences per step.
        lr (`float`, *optional*, defaults to 2e-3): peak learning rate of AdamW.
        seed (`int`, *optional*, defaults to 0): seed of weights, masks and order.

    Raises:
        ValueError: no sentences, or labels that do not belong to them.

    Example:

    ```python
    >>> from transformers import AutoModelForSequenceClassification
    >>> from eigenhub.embedded.roberta import pretrained_roberta_folder

    >>> sentences = ["a gem of a film", "dull and overlong"] * 20
    >>> folder = pretrained_roberta_folder(sentences, vocab_size=300, num_steps=5)
    >>> AutoModelForSequenceClassification.from_pretrained(folder).num_labels
    2
    ```
    """
    texts = list(texts)
    labelled = texts if labelled_texts is None else list(labelled_texts)
    _check_sentences(texts, labels, labelled)
    recipe = {
        "text": _digest(texts),
        "labelled": None if labels is None else _digest([labelled, list(labels)]),
        "keep_head": keep_head if labels is not None else None,
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "num_steps": num_steps,
        "head_steps": head_steps if labels is not None else None,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
    }

    def build(folder: Path) -> None:
        tokenizer = train_roberta_tokenizer(texts, vocab_size, MAX_LENGTH)
        num_labels = 2 if labels is None else 1 + max(labels)
        config = small_roberta_config(tokenizer, hidden_size, num_layers, max(2, num_labels))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: Any = RobertaForMaskedLM(config)
            batches = masked_batches(texts, tokenizer, batch_size, seed)
            fit(_AtMasks(model), batches, num_steps, lr, "pretraining the embedded RoBERTa")  # type: ignore[arg-type]
            if labels is not None:
                model = _with_head(model)
                rows = labelled_batches(labelled, labels, tokenizer, batch_size, seed)
                fit(model, rows, head_steps, lr / 4, "training the embedded RoBERTa's head")
        tokenizer.save_pretrained(folder)
        (model if keep_head else model.base_model).save_pretrained(folder)

    return cached_folder("roberta-text", recipe, build)


class _AtMasks(nn.Module):
    """The masked language model with scores over the vocabulary at the masked places only, a seventh of the work."""

    def __init__(self, model: RobertaForMaskedLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> MaskedLMOutput:
        hidden = self.model.roberta(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        asked = labels != IGNORED  # [batch, tokens]
        return MaskedLMOutput(loss=F.cross_entropy(self.model.lm_head(hidden[asked]), labels[asked]))


def _with_head(model: RobertaForMaskedLM) -> RobertaForSequenceClassification:
    classifier = RobertaForSequenceClassification(model.config)
    classifier.roberta.load_state_dict(model.roberta.state_dict())
    return classifier


def _check_sentences(texts: Sequence[str], labels: Sequence[int] | None, labelled: Sequence[str]) -> None:
    if not any(texts):
        raise ValueError(f"`texts` must hold sentences to pretrain on, got {len(texts)} without text")
    if labels is None:
        if labelled is not texts:
            raise ValueError(f"`labelled_texts` holds {len(labelled)} sentences and `labels` is None: pass both")
        return
    if len(labels) != len(labelled) or not labelled:
        raise ValueError(
            f"`labels` must be as many as the labelled sentences, got {len(labels)} for {len(labelled)} sentences"
        )
    if odd := [label for label in labels if label < 0]:
        raise ValueError(f"`labels` must be classes from 0, got {odd[0]}")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
