# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the official minimal S4D (state-spaces/s4, `models/s4/s4d.py` and `example.py`)."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


RENAMED = {
    "kernel.log_dt": "ssm.inv_dt",
    "kernel.log_A_real": "ssm.A_real",
    "kernel.A_imag": "ssm.A_imag",
    "D": "ssm.D",
    "output_linear.0.bias": "output_linear.bias",
}
MODEL_NAMES = (
    (r"^s4_layers\.(\d+)\.", r"model.layers.\1.mixer.layer."),
    (r"^norms\.(\d+)\.", r"model.layers.\1.norm."),
    (r"^encoder\.", "model.encoder.embed_values."),
    (r"^decoder\.", "classifier."),
)


def rename_official_keys(state_dict: dict[str, Any], prefix: str) -> None:
    """Give the entries of one layer the names and conventions of [`S4DLayer`], in place; others stay as they are.

    The official eigenvalues have positive imaginary parts, ours negative ones, so C is conjugated; B, absorbed in C there,
    becomes one; the 1 x 1 convolution becomes a matrix.

    Args:
        state_dict (`dict`): entries of a checkpoint.
        prefix (`str`): name of the layer in it, with a dot at the end, or nothing.
    """
    if f"{prefix}kernel.C" not in state_dict:
        return
    c = state_dict.pop(f"{prefix}kernel.C")
    c = torch.view_as_real(c.resolve_conj()) if c.is_complex() else c
    state_dict[f"{prefix}ssm.C"] = c * c.new_tensor([1.0, -1.0])
    state_dict[f"{prefix}ssm.B"] = torch.ones_like(c) * c.new_tensor([1.0, 0.0])
    state_dict[f"{prefix}ssm.state_weight"] = c.new_full(c.shape[1:2], 2.0)
    weight = f"{prefix}output_linear.0.weight"
    if weight in state_dict:
        state_dict[f"{prefix}output_linear.weight"] = state_dict.pop(weight).squeeze(-1)
    for old, new in RENAMED.items():
        if prefix + old in state_dict:
            state_dict[prefix + new] = state_dict.pop(prefix + old)


def convert_official_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of the official example model under the names of [`S4DForSequenceClassification`].

    Args:
        state_dict (`Mapping[str, Tensor]`): `S4Model.state_dict()` of the official `example.py`: a linear encoder, S4D layers
            with layer norm after the residual sum, mean pooling, a linear decoder.

    Returns:
        `dict[str, Tensor]`: for `load_state_dict` of a model with `init="lin"`, `prenorm=False` and an `input_size`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.models.s4d import convert_official_state_dict
    >>> sorted(convert_official_state_dict({"encoder.weight": torch.zeros(4, 1), "decoder.bias": torch.zeros(2)}))
    ['classifier.bias', 'model.encoder.embed_values.weight']
    ```
    """
    renamed: dict[str, Any] = {}
    for name, tensor in state_dict.items():
        for pattern, ours in MODEL_NAMES:
            name = re.sub(pattern, ours, name)
        renamed[name] = tensor
    for name in list(renamed):
        if name.endswith("kernel.C"):
            rename_official_keys(renamed, name.removesuffix("kernel.C"))
    return renamed
