# SPDX-License-Identifier: Apache-2.0
"""From a preset, a Hub id, a folder or a pasted config.json to an architecture, without any weights."""

import json
from typing import Any

import torch
import transformers
from names import PRESETS
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from eigenhub.embedded.llama_sizes import LLAMA_SIZES, LlamaSize


#: The published comparisons count a vocabulary of 32 000 and a head of its own.
VOCABULARY = 32_000
SIZES = {**LLAMA_SIZES, "llama_7b": LlamaSize(4096, 11008, 32, 32)}


def read_architecture(source: str) -> PreTrainedConfig:
    """
    The configuration that a visitor named.

    Args:
        source (`str`): key of `PRESETS`, Hub id, folder, or the text of a config.json.
    """
    source = source.strip()
    if source in PRESETS:
        return preset(source)
    if source.startswith("{"):
        fields = json.loads(source)
        if "model_type" not in fields:
            raise ValueError("the text has no `model_type`, so it is no config.json of transformers")
        return AutoConfig.for_model(**fields)
    if not source:
        raise ValueError("nothing is named")
    return AutoConfig.from_pretrained(source, trust_remote_code=False)


def preset(name: str) -> LlamaConfig:
    size = SIZES[name]
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
    )


def model_class(config: PreTrainedConfig) -> Any:
    """The class that the configuration names, else a causal language model, else the bare model; with `from_pretrained`."""
    named = getattr(transformers, next(iter(config.architectures or ()), ""), None)
    if named is not None:
        return named
    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel


def new_model(config: PreTrainedConfig, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The model with random weights; on the device `"meta"` it has shapes only."""
    found = model_class(config)
    with torch.device(device):
        model = found(config) if issubclass(found, PreTrainedModel) else found.from_config(config)
    return model.to(dtype)
