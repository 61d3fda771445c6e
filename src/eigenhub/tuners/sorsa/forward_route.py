# SPDX-License-Identifier: Apache-2.0
"""`reg_in_forward`: the penalty inside `outputs.loss`, by a hook on the base model.

A hook and not an override of `forward`: adapters that transformers' own `add_adapter` and `load_adapter` inject have no
tuner object around the model.
"""

import warnings
from typing import Any

from torch import nn

from eigenhub.tuners.sorsa.layer import SorsaLayer
from eigenhub.tuners.sorsa.penalty import orthonormality_penalty


def install_forward_route(module: nn.Module) -> None:
    """Register the hook, once for all adapters: twice would count the penalty twice."""
    if add_penalty_to_loss not in module._forward_hooks.values():
        module.register_forward_hook(add_penalty_to_loss, with_kwargs=True)


def adapters_on_forward_route(module: nn.Module) -> list[str]:
    """Active adapters that ask for the penalty in the loss; none while adapters are disabled."""
    layers = [layer for layer in module.modules() if isinstance(layer, SorsaLayer) and not layer.disable_adapters]
    active = {(name, layer) for layer in layers for name in layer.active_adapters if name in layer.sorsa_U}
    return sorted({name for name, layer in active if layer.sorsa_config[name].reg_in_forward})


def add_penalty_to_loss(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook: add `reg_weight * R` to the loss of a training step."""
    adapters = adapters_on_forward_route(module) if module.training else []
    if not adapters:
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
    output["loss"] = output.loss + orthonormality_penalty(module, adapters, weighted=True).to(output.loss.device)
    return output


def remove_forward_route(module: nn.Module) -> None:
    """Take the hook off again."""
    for key in [key for key, hook in module._forward_hooks.items() if hook is add_penalty_to_loss]:
        del module._forward_hooks[key]
        module._forward_hooks_with_kwargs.pop(key, None)
