# SPDX-License-Identifier: Apache-2.0
"""Parameter groups by the names of the parameters of state space layers."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn


def is_in_layer(name: str, layer: str, leaves: Iterable[str]) -> bool:
    """Whether a parameter is one of a state space layer, however deep wrappers have buried it.

    Args:
        name (`str`): name of the parameter in the model.
        layer (`str`): name of the layer in its block.
        leaves (`Iterable[str]`): names of the parameters in question.
    """
    parts = name.split(".")
    return parts[-1] in leaves and layer in parts[:-1]


def make_groups(
    model: nn.Module, layer: str, group_of: Mapping[str, str], options: Mapping[str, Mapping[str, Any]], rest: str
) -> list[dict[str, Any]]:
    """Groups of trainable parameters, each in exactly one; empty ones are left out.

    Args:
        model (`nn.Module`): what is trained.
        layer (`str`): name of the state space layer in its block.
        group_of (`Mapping[str, str]`): group of each parameter of that layer.
        options (`Mapping`): options of each group.
        rest (`str`): group of all other parameters.
    """
    members: dict[str, list[tuple[str, nn.Parameter]]] = {name: [] for name in options}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = is_in_layer(name, layer, group_of)
            members[group_of[name.rpartition(".")[2]] if own else rest].append((name, parameter))
    return [
        {"params": [p for _, p in found], "name": group, "members": [n for n, _ in found], **options[group]}
        for group, found in members.items()
        if found
    ]


def check_rates(**rates: float) -> None:
    """Raise `ValueError` for a negative learning rate or weight decay.

    Args:
        rates (`float`): values by the names of the arguments.
    """
    for name, value in rates.items():
        if not value >= 0:
            raise ValueError(f"`{name}` must not be negative, got {value!r}")
