# SPDX-License-Identifier: Apache-2.0
"""What each parameter of a model is, by the type of its module and by identity, not by its name."""

import sys
from collections.abc import Iterator

from torch import Tensor, nn


LINEAR = "linear weight"
CONV1D = "Conv1D weight (inputs, outputs)"
EXPERTS = "expert stack"
EXPERTS_TRANSPOSED = "expert stack (inputs, outputs)"
MATRIX_ROLES = (LINEAR, CONV1D, EXPERTS, EXPERTS_TRANSPOSED)
TRANSPOSED_ROLES = (CONV1D, EXPERTS_TRANSPOSED)

# Attributes by which the modules of mixtures of experts say how many they hold.
EXPERT_COUNTS = ("num_experts", "num_local_experts", "num_routed_experts")

EMBEDDING = "embedding"
HEAD = "output embedding"
ADAPTER = "adapter"
VECTOR = "vector"
OTHER = "other"


def parameter_roles(model: nn.Module) -> dict[Tensor, str]:
    """The role of every parameter; a parameter with several names has one role.

    An embedding stays one even if a linear head shares its weight, whatever the modules are called.

    Args:
        model (`nn.Module`): any model, wrapped or not.
    """
    roles = {parameter: _by_module(module, parameter) for module, parameter in _owned(model)}
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            roles |= {p: EMBEDDING for p in module.parameters(recurse=False) if p.ndim == 2}
        roles |= dict.fromkeys(_weights_of(module, "get_output_embeddings"), HEAD)
        roles |= dict.fromkeys(_adapters_of(module), ADAPTER)
    for module in model.modules():
        roles |= dict.fromkeys(_weights_of(module, "get_input_embeddings"), EMBEDDING)
    return roles


def _owned(model: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            yield module, parameter


def _by_module(module: nn.Module, parameter: Tensor) -> str:
    if parameter.ndim < 2:
        return VECTOR
    if parameter is getattr(module, "weight", None) and parameter.ndim == 2:
        if isinstance(module, nn.Linear):
            return LINEAR
        if _is_conv1d(module):
            return CONV1D
    if parameter.ndim == 3 and _holds_experts(module, parameter.shape[0]):
        return EXPERTS_TRANSPOSED if getattr(module, "is_transposed", False) else EXPERTS
    return OTHER


def _holds_experts(module: nn.Module, count: int) -> bool:
    """Whether 3-D parameters are stacks of weights; position tables and convolutions have three dimensions too."""
    counts = [getattr(module, name, None) for name in EXPERT_COUNTS]
    return hasattr(module, "is_transposed") or count in counts or "Experts" in type(module).__name__


def _is_conv1d(module: nn.Module) -> bool:
    """Whether this is GPT-2's layer; a model that has one has imported it."""
    library = sys.modules.get("transformers.pytorch_utils")
    return library is not None and isinstance(module, library.Conv1D)


def _weights_of(module: nn.Module, getter: str) -> list[Tensor]:
    get = getattr(module, getter, None)
    try:
        found = get() if callable(get) else None
    except (AttributeError, NotImplementedError):  # a backbone without text has no embeddings to name
        return []
    return [p for p in found.parameters(recurse=False) if p.ndim == 2] if isinstance(found, nn.Module) else []


def _adapters_of(module: nn.Module) -> list[Tensor]:
    """Parameters that a PEFT layer names as its adapters."""
    names = getattr(module, "adapter_layer_names", ())
    held = [getattr(module, name, None) for name in names if isinstance(name, str)]
    bare: list[Tensor] = [part for part in held if isinstance(part, nn.Parameter)]
    return bare + [p for part in held if isinstance(part, nn.Module) for p in part.parameters()]
