# SPDX-License-Identifier: Apache-2.0
"""Tiny random models and tokenizers, built offline in milliseconds and the same in every process."""

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

from tests.support.data import TEXTS


VOCABULARY = 64
SPECIAL_TOKENS = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def build(model_class: type[PreTrainedModel], config: PreTrainedConfig, seed: int = 0) -> Any:
    """Random model in eval mode; the generator of the caller is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config).eval()


def tiny_llama(seed: int = 0, **overrides: Any) -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = sizes | {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 1} | overrides
    return build(LlamaForCausalLM, LlamaConfig(**config), seed)


def tiny_gpt2(seed: int = 0, **overrides: Any) -> GPT2LMHeadModel:
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": VOCABULARY}
    # without dropout the model trains the same way under every split of the batch
    quiet = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    tokens = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1}
    return build(GPT2LMHeadModel, GPT2Config(**(sizes | quiet | tokens | overrides)), seed)


def tiny_bert(seed: int = 0, **overrides: Any) -> BertForSequenceClassification:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    quiet = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    config = sizes | quiet | {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 1} | overrides
    return build(BertForSequenceClassification, BertConfig(**config), seed)


def tiny_vit(seed: int = 0, **overrides: Any) -> ViTForImageClassification:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    images = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 10}
    quiet = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    return build(ViTForImageClassification, ViTConfig(**(sizes | images | quiet | overrides)), seed)


def tiny_tokenizer(texts: Iterable[str] = TEXTS, vocab_size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """BPE tokenizer trained in memory; its ids fit the tiny models above."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = list(SPECIAL_TOKENS.values())
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)
