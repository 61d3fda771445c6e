# SPDX-License-Identifier: Apache-2.0
"""Weights that a checkpoint holds under other names than the model."""

from functools import reduce
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from eigenhub.files import open_tensors


#: What FSDP and DeepSpeed leave in a checkpoint; they load their own files, by the names of the model.
ENGINE_FILES = ("pytorch_model_fsdp*", "global_step*")


def restore_renamed(model: Any, folder: Path) -> bool:
    """Loads a checkpoint by `from_pretrained` if the names in it are not those of the model.

    Transformers saves the head of GPT-NeoX, and so of every Pythia, as `embed_out` and calls it `lm_head`; other
    architectures have experts or whole blocks renamed. `from_pretrained` knows that. A `Trainer` that is resumed does not,
    and goes on with what the model began with, after a warning in its log.

    Args:
        model (`nn.Module`): changed in place; adapters and models in shards keep their names and are left alone.
        folder (`Path`): of the checkpoint.

    Returns:
        `bool`: whether that was necessary.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not isinstance(model, PreTrainedModel) or not files or any(any(folder.glob(name)) for name in ENGINE_FILES):
        return False
    saved: set[str] = set()
    for file in files:
        with open_tensors(file) as tensors:
            saved |= set(tensors.keys())
    if saved <= set(model.state_dict()):  # tied weights are saved once
        return False
    kinds = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
    whole = type(model).from_pretrained(folder, dtype=reduce(torch.promote_types, kinds))  # nothing is rounded
    model.load_state_dict(whole.state_dict())
    return True
