# SPDX-License-Identifier: Apache-2.0
"""Which tensors of an adapter belong together as the two factors of one layer."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


# `x.lora_A.weight` in a saved adapter, `x.lora_A.default.weight` in a model; embeddings keep bare parameters.
_FACTOR = re.compile(
    r"(?P<name>.+)\.lora_(embedding_)?(?P<factor>[AB])(?P<adapter>\.(?!weight$|bias$)[^.]+)?(\.weight)?"
)
_UNSUPPORTED = {
    "lora_magnitude_vector": "DoRA: its magnitudes belong to the product B A of one client",
    ".lora_B.bias": "`lora_bias=True`",
    ".lora_A.bias": "`lora_bias=True`",
}


class LoraKeys(NamedTuple):
    """The keys of the two factors of one layer.

    Args:
        A (`str`): key of the factor that reads the layer's input, (r, d_in).
        B (`str`): key of the factor that writes its output, (d_out, r).
    """

    A: str
    B: str


def pair_lora_keys(state_dict: Mapping[str, Tensor]) -> dict[str, LoraKeys]:
    """The LoRA layers of a state dict: linear, embedding and convolution layers.

    Args:
        state_dict (`Mapping[str, Tensor]`): of a saved adapter or of a whole PEFT model.

    Returns:
        `dict[str, LoraKeys]`: by the name of the layer (with that of the adapter, if the keys have it), sorted.

    Raises:
        ValueError: a factor without its partner, factors whose shapes do not fit, or DoRA.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.federated import pair_lora_keys
    >>> pair_lora_keys({"q.lora_A.weight": torch.zeros(2, 5), "q.lora_B.weight": torch.zeros(3, 2)})
    {'q': LoraKeys(A='q.lora_A.weight', B='q.lora_B.weight')}
    ```
    """
    found: dict[str, dict[str, str]] = {}
    for key in state_dict:
        if what := next((why for mark, why in _UNSUPPORTED.items() if mark in key), None):
            raise ValueError(f"`{key}` cannot be averaged over clients ({what})")
        if match := _FACTOR.fullmatch(key):
            found.setdefault(match["name"] + (match["adapter"] or ""), {})[match["factor"]] = key
    pairs = {name: _paired(name, factors, state_dict) for name, factors in sorted(found.items())}
    if not pairs:
        raise ValueError("the state dict holds no LoRA factors (keys with `lora_A` and `lora_B`)")
    return pairs


def _paired(name: str, factors: Mapping[str, str], state_dict: Mapping[str, Tensor]) -> LoraKeys:
    if missing := {"A", "B"} - set(factors):
        raise ValueError(f"layer `{name}` has no lora_{missing.pop()}: pass the factors of both sides")
    keys = LoraKeys(factors["A"], factors["B"])
    a, b = (state_dict[key] for key in keys)
    if a.ndim < 2 or b.ndim < 2 or a.shape[0] != b.shape[1] or b[0, 0].numel() != 1:
        raise ValueError(
            f"layer `{name}`: A {tuple(a.shape)} and B {tuple(b.shape)} are no product of (d_out, r) and (r, d_in); "
            "grouped convolutions and parameters of several experts are not supported"
        )
    return keys


def as_matrix(factor: Tensor) -> Tensor:
    """A factor with two dimensions; those of a convolution's kernel count as inputs.

    Args:
        factor (`Tensor` of shape `(rows, ...)`): A or B of any layer.
    """
    return factor.flatten(1)
