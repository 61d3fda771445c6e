# SPDX-License-Identifier: Apache-2.0
"""Hidden states of one layer of a language model."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eigenhub.metrics.decoder_blocks import base_model_of, num_blocks


LAYERS = ("middle", "penultimate")


def layer_index(model: nn.Module, layer: str | int) -> int:
    """Place in `hidden_states`, which begins with the embeddings and ends behind the last norm.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not.
        layer (`str` or `int`): `"middle"`, that is `len(hidden_states) // 2`, `"penultimate"`, or an index, which may be
            negative.

    Returns:
        `int`, not negative.
    """
    count = num_blocks(model) + 1
    if layer == "middle":
        return count // 2
    if layer == "penultimate":
        return count - 2
    if isinstance(layer, bool) or not isinstance(layer, int) or not -count <= layer < count:
        raise ValueError(f"`layer` must be one of {', '.join(LAYERS)} or from {-count} to {count - 1}, got {layer!r}")
    return layer % count


def forward_with_states(
    model: nn.Module, inputs: dict[str, Any], index: int, selective: bool = True
) -> tuple[Tensor, Tensor]:
    """Logits and the hidden states of one layer.

    Args:
        model (`nn.Module`): a causal language model.
        inputs (`dict[str, Any]`): keyword arguments of its forward; with `past_key_values` it goes on from there.
        index (`int`): see [`layer_index`].
        selective (`bool`, *optional*, defaults to `True`): ask for this layer only, so that no other is kept in memory; a
            model that does not know such a question takes it for "yes" and returns all.

    Returns:
        logits `(b, t, vocabulary)` and states `(b, t, d)`.
    """
    asked: Any = [index] if selective else True
    goes_on = "past_key_values" in inputs
    output = model(**inputs, output_hidden_states=asked, use_cache=goes_on, return_dict=True)
    states = output.hidden_states[index] if output.hidden_states else None
    if states is None:
        raise ValueError(f"`model` must give its hidden states, {type(model).__name__} gives none for layer {index}")
    return output.logits, states


def takes(model: nn.Module, name: str) -> bool:
    """Whether the forward of a model has a parameter of this name.

    Args:
        model (`nn.Module`): a transformers model, PEFT-wrapped or not.
        name (`str`): for example `"logits_to_keep"`, by which logits of the first tokens are left out.
    """
    return name in inspect.signature(base_model_of(model).forward).parameters


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A block in which the model is in eval mode and no gradient is kept; every module gets its own mode back.

    Args:
        model (`nn.Module`): any model.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
