# SPDX-License-Identifier: Apache-2.0
"""`reg_in_forward`: the penalty inside `outputs.loss`, by a hook on the base model.

A hook and not an override of `forward`: adapters that transformers' own `add_adapter` and `load_adapter` inject have no
tuner object around the model.
"""

import warnings
from typing import Any

from torch import nn

from eigenhub.tuners.sorsa.penalty import orthonormality_penalty


def add_penalty_to_loss(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook: add `reg_weight * R` to the loss of a training step."""
    if not module.training:
        return output
    if isinstance(output, tuple):
        if kwargs.get("labels") is not None:
            raise ValueError("`reg_in_forward=True` needs a named loss: call the model with `return_dict=True`")
        return output
    if getattr(output, "loss", None) is None:
        return output
    if kwargs.get("num_items_in_batch") is not None:
        warnings.warn(
            "`reg_in_forward=True` under Trainer: gradient accumulation and several processes multiply the penalty there. "
            "Use `SorsaRegularizerCallback` or `SorsaTrainer`",
            stacklevel=2,
        )
    output["loss"] = output.loss + orthonormality_penalty(module, weighted=True).to(output.loss.device)
    return output


def remove_forward_route(module: nn.Module) -> None:
    """Take the hook off again, however often it was registered."""
    for key in [key for key, hook in module._forward_hooks.items() if hook is add_penalty_to_loss]:
        del module._forward_hooks[key]
        module._forward_hooks_with_kwargs.pop(key, None)
