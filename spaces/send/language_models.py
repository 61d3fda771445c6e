# SPDX-License-Identifier: Apache-2.0
"""The models that are asked: two embedded ones, or any causal language model that a visitor names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from names import BASE, MAX_PARAMETERS, MODELS, TOLD
from random_numbers import DRAWING
from teaching import told_folder
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from eigenhub.embedded.fact_model import pretrained_fact_folder
from eigenhub.hub.space_events import shown_to_visitor


EMBEDDED = {BASE: pretrained_fact_folder, TOLD: told_folder}


@dataclass(frozen=True)
class LoadedModel:
    """
    A model that answers.

    Args:
        name (`str`): what the visitor called it.
        model (`PreTrainedModel`): in evaluation mode.
        tokenizer (`Any`): its tokenizer.
        revision (`str`): commit on the Hub, empty for others.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Any
    revision: str


def load_model(name: str) -> LoadedModel:
    """
    The model that a visitor named; the two most recent ones stay in memory.

    Args:
        name (`str`): an embedded name, a Hub id or a folder.

    Raises:
        gr.Error: it does not exist or cannot be asked, in words for the visitor.
    """
    with shown_to_visitor(f"Cannot load {name!r}"):
        return _load(name)


@lru_cache(maxsize=2)
def _load(name: str) -> LoadedModel:
    if ":" in name and name not in MODELS:
        raise ValueError(f"the embedded models are {', '.join(MODELS)}")
    if name in MODELS:
        with DRAWING:  # its training is seeded
            source: str | Path = EMBEDDED[name]()
    else:
        source = Path(name).expanduser() if Path(name).expanduser().is_dir() else name
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    check_config(config)
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", use_safetensors=True)
    if model.dtype == torch.float16 and not torch.cuda.is_available():  # half of its operations are missing there
        model.float()
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    return LoadedModel(name, model.eval().requires_grad_(False), tokenizer, _revision(name))


def _revision(name: str) -> str:
    """The commit that a model of the Hub was loaded from: the name of its folder in the cache."""
    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # an embedded name or a folder
        return ""
    return Path(found).parent.name if isinstance(found, str) else ""


def check_config(config: PreTrainedConfig) -> None:
    """
    Raise `ValueError` for what is no causal language model, or too large for this page.

    Args:
        config (`PreTrainedConfig`): of the model.
    """
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise ValueError(f"it is a {config.model_type} model, not a causal language model")
    known = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    allowed = {one.__name__ for one in (known if isinstance(known, tuple | list) else (known,))}
    named = set(config.architectures or ())
    if named and not named & allowed:
        raise ValueError(f"it is a {', '.join(sorted(named))}, not a causal language model ({', '.join(allowed)})")
    with torch.device("meta"):
        size = AutoModelForCausalLM.from_config(config).num_parameters()
    if size > MAX_PARAMETERS:
        raise ValueError(f"it has {size:,} parameters, this page takes up to {MAX_PARAMETERS:,}")


def check_length(loaded: LoadedModel, prompts: Sequence[str], max_new_tokens: int) -> None:
    """
    Raise `ValueError` where prompt and answer are longer than the model can read.

    Args:
        loaded (`LoadedModel`): will be asked.
        prompts (`Sequence[str]`): one or more.
        max_new_tokens (`int`): longest answer.
    """
    most = getattr(loaded.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    length = max(len(loaded.tokenizer(prompt)["input_ids"]) for prompt in prompts)
    if most is not None and length + max_new_tokens > most:
        raise ValueError(f"a prompt has {length} tokens; with {max_new_tokens} new ones that is more than {most}")
