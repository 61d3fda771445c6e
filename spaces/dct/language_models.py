# SPDX-License-Identifier: Apache-2.0
"""Models whose weights and gradients are looked at: the embedded one, or whatever a visitor named."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import gradio as gr
import torch
from architectures import model_class, new_model
from names import TRAINED, UNTRAINED
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from eigenhub.embedded.byte_llama import new_byte_llama, pretrained_byte_llama_folder
from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.optim import build_param_groups


MAX_PARAMETERS = 2_000_000_000


@dataclass
class LoadedModel:
    """
    A model with its matrices by name.

    Args:
        name (`str`): what the visitor called it.
        model (`PreTrainedModel`): in evaluation mode; no parameter requires a gradient.
        tokenizer (`Any`, *optional*): `None` where the model came without one.
        matrices (`dict[str, Tensor]`): the weights that the optimizers would treat as matrices.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Any = None
    matrices: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        parameters = dict(self.model.named_parameters())
        assigned = build_param_groups(self.model).assignments
        self.matrices = {a.name: parameters[a.name] for a in assigned if a.group.startswith("matrix")}
        self.matrices = {name: weight for name, weight in self.matrices.items() if weight.ndim == 2}
        if not self.matrices:
            raise ValueError("it has no weight of a linear layer")
        self.model.eval().requires_grad_(False)

    @property
    def predicts_text(self) -> bool:
        """Whether there is a next token whose loss has a gradient."""
        return self.tokenizer is not None and type(self.model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


def load_model(name: str | None) -> LoadedModel:
    """
    The model that a visitor named; the two most recent ones stay in memory.

    Args:
        name (`str`, *optional*): an embedded name, a Hub id or a folder.

    Raises:
        gr.Error: it does not exist or cannot be shown, in words for the visitor.
    """
    name = (name or "").strip()
    if not name:
        raise gr.Error("Name a model: an embedded one, a Hub id or a folder.")
    with shown_to_visitor(f"Cannot load {name!r}"):
        return _load(name)


@lru_cache(maxsize=2)
def _load(name: str) -> LoadedModel:
    if name == UNTRAINED:
        return LoadedModel(name, new_byte_llama(), byte_tokenizer())
    source = str(pretrained_byte_llama_folder()) if name == TRAINED else name
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    size = new_model(config, torch.float32, "meta").num_parameters()
    if size > MAX_PARAMETERS:
        raise ValueError(f"it has {size:,} parameters, this page takes up to {MAX_PARAMETERS:,}")
    model = model_class(config).from_pretrained(source, dtype="auto")
    if model.dtype == torch.float16:  # gradients of half precision overflow without a scaled loss
        model.float()
    return LoadedModel(name, model, _tokenizer(source))


def _tokenizer(source: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError):  # models without text come without one
        return None
