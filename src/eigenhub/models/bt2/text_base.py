# SPDX-License-Identifier: Apache-2.0
"""The parts of sentence-transformers that the text side of BT2 builds on, or how to get them."""

import copy
from collections import OrderedDict

from torch import nn

from eigenhub.models.bt2.search_extra import require


require("sentence_transformers", "the text side of BT2")

from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.base.evaluation import BaseEvaluator  # noqa: E402
from sentence_transformers.base.model import BaseModel  # noqa: E402
from sentence_transformers.base.modules import Dense, Module, Normalize  # noqa: E402
from sentence_transformers.util import load_file_path  # noqa: E402


__all__ = [
    "BaseEvaluator",
    "BaseModel",
    "Dense",
    "Module",
    "Normalize",
    "SentenceTransformer",
    "load_file_path",
    "prompts_of",
    "with_modules",
]


def prompts_of(model: SentenceTransformer) -> dict[str, str]:
    """The prompts of a model that are not empty."""
    return {name: prompt for name, prompt in model.prompts.items() if prompt}


def with_modules(model: SentenceTransformer, modules: OrderedDict[str, nn.Module]) -> SentenceTransformer:
    """
    A model of other modules with the settings of another one.

    Args:
        model (`SentenceTransformer`): gives device, prompts and card.
        modules (`OrderedDict[str, nn.Module]`): the modules.
    """
    other = SentenceTransformer(
        modules=modules,  # type: ignore[arg-type]  # takes named ones too
        device=str(model.device),
        prompts=prompts_of(model),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
    )
    other.module_kwargs = model.module_kwargs
    other.model_card_data = copy.copy(model.model_card_data)
    other.model_card_data.register_model(other)
    return other.train(model.training)
