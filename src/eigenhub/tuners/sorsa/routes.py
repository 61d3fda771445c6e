# SPDX-License-Identifier: Apache-2.0
"""The ways in which the penalty enters training. Exactly one may be at work on a model.

| route | for | how |
| --- | --- | --- |
| [`apply_regularizer`] | accelerate and raw loops | adds the gradient before `optimizer.step()` |
| [`SorsaRegularizerCallback`] | any `Trainer` subclass | the same, from a callback |
| [`SorsaTrainer`] | `Trainer`, and the only one for DeepSpeed | adds the value to the loss |
| `SorsaConfig(reg_in_forward=True)` | raw loops that know only `outputs.loss` | adds the value to the model's loss |
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import DistributedType
from torch import nn

from eigenhub.tuners.sorsa.layer import SorsaLayer
from eigenhub.tuners.sorsa.penalty import penalty_gradients


FORWARD_ROUTE = "`reg_in_forward=True`"


def sorsa_layers(model: nn.Module) -> list[SorsaLayer]:
    """Every SORSA layer of a model, wrapped or not.

    Raises:
        ValueError: there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, SorsaLayer)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no SORSA layers: add an adapter with `get_peft_model` first")
    return layers


def active_route(model: nn.Module) -> str | None:
    """Name of the route that regularises the model at the moment."""
    for layer in sorsa_layers(model):
        if layer.claimed_by is not None:
            return layer.claimed_by
        if any(layer.sorsa_config[name].reg_in_forward for name in layer.active_adapters if name in layer.sorsa_U):
            return FORWARD_ROUTE
    return None


def claim_route(model: nn.Module, route: str) -> None:
    """Reserve the model for a route until [`release_route`].

    Raises:
        RuntimeError: another route is at work; the penalty would count twice.
    """
    if (other := active_route(model)) is not None and other != route:
        raise RuntimeError(
            f"{other} already adds the SORSA penalty to this model; {route} would count it twice: use one"
        )
    for layer in sorsa_layers(model):
        layer.claimed_by = route


def release_route(model: nn.Module, route: str) -> None:
    """Undo [`claim_route`]."""
    for layer in sorsa_layers(model):
        if layer.claimed_by == route:
            layer.claimed_by = None


@contextmanager
def claimed_route(model: nn.Module, route: str) -> Iterator[None]:
    """[`claim_route`] for the length of a block."""
    claim_route(model, route)
    try:
        yield
    finally:
        release_route(model, route)


@torch.no_grad()
def add_penalty_gradient(model: nn.Module, scale: float = 1.0, broadcast: bool = False) -> None:
    """Add `scale * reg_weight * grad R` to the gradients of the active adapters' `sorsa_U` and `sorsa_V`."""
    for parameter, gradient in penalty_gradients(model):
        if not parameter.requires_grad:
            continue
        if broadcast and not hasattr(gradient, "device_mesh"):  # shards differ between ranks by design
            torch.distributed.broadcast(gradient, src=0)
        if parameter.grad is None:
            parameter.grad = gradient.mul_(scale)
        else:
            parameter.grad.add_(gradient, alpha=scale)


def apply_regularizer(model: nn.Module, scale: float = 1.0) -> None:
    """Add the gradient of the penalty to `.grad`, for accelerate and raw loops.

    Call it after clipping, right before `optimizer.step()`, and only when gradients are synchronised; then neither
    gradient accumulation nor the number of processes changes the penalty:

    ```python
    accelerator.backward(loss)
    if accelerator.sync_gradients:
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        apply_regularizer(model)
    optimizer.step()
    ```

    Not for DeepSpeed, whose engine steps inside `accelerator.backward`: add `reg_weight * orthonormality_penalty(model)`
    to the loss there, divided by the accumulation count if the loop does not divide.

    Args:
        model (`nn.Module`): the model, wrapped or not.
        scale (`float`, *optional*, defaults to 1.0): factor on the gradient; the `GradScaler`'s scale where the gradients
            have not been unscaled.

    Raises:
        ValueError: the model has no active SORSA adapter.
        RuntimeError: another route already regularises the model, or a DeepSpeed engine owns the gradients.
    """
    other = active_route(model)
    if other is not None:
        raise RuntimeError(
            f"{other} already adds the SORSA penalty to this model; `apply_regularizer` would count it twice"
        )
    if _is_under_deepspeed(model):
        raise RuntimeError("`apply_regularizer` comes too late under DeepSpeed: add the penalty to the loss instead")
    add_penalty_gradient(model, scale)


def _is_under_deepspeed(model: nn.Module) -> bool:
    """Whether an engine owns the gradients; only ZeRO-3 marks the parameters, the others show in accelerate's state."""
    if is_initialized() and AcceleratorState().distributed_type == DistributedType.DEEPSPEED:
        return True
    engines = [module for module in model.modules() if type(module).__name__ == "DeepSpeedEngine"]
    return bool(engines) or any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def lambda_from_gamma(gamma: float, lr: float, grad_accum: int = 1) -> float:
    r"""The weight $\lambda = \gamma / \eta_0$ that realises the paper's separate penalty rate on the learning-rate schedule.

    Args:
        gamma (`float`): the paper's rate, 4e-4 in its Llama-2 run.
        lr (`float`): peak learning rate, 3e-5 there.
        grad_accum (`int`, *optional*, defaults to 1): 64 reproduces the weight in effect in the released run, whose
            trainer divided the penalty by the accumulation count (0.208 instead of 13.3).

    Example:

    ```python
    >>> from eigenhub.tuners.sorsa import lambda_from_gamma
    >>> round(lambda_from_gamma(4e-4, 3e-5, grad_accum=64), 3)
    0.208
    ```
    """
    for name, value in {"lr": lr, "grad_accum": grad_accum}.items():
        if not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value!r}")
    if not gamma >= 0:
        raise ValueError(f"`gamma` must not be negative, got {gamma!r}")
    return gamma / lr / grad_accum


def sorsa_param_groups(model: nn.Module, lr: float, weight_decay: float = 0.0) -> list[dict]:
    """Parameter groups for an optimizer: no weight decay on the factors, where it would shrink the pretrained block.

    Args:
        model (`nn.Module`): the adapted model.
        lr (`float`): learning rate of every group.
        weight_decay (`float`, *optional*, defaults to 0.0): decay of the other trainable matrices (`modules_to_save`);
            vectors get none.

    Returns:
        Groups without empties; every trainable parameter is in exactly one.

    Raises:
        ValueError: nothing in the model is trainable.
    """
    factors = {
        id(p)
        for layer in sorsa_layers(model)
        for key in layer.adapter_layer_names
        for p in getattr(layer, key).values()
    }
    groups: dict[str, list[nn.Parameter]] = {"factors": [], "matrices": [], "vectors": []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            kind = "factors" if id(parameter) in factors else "matrices" if parameter.ndim > 1 else "vectors"
            groups[kind].append(parameter)
    if not any(groups.values()):
        raise ValueError("`model` has no trainable parameters")
    decay = {"factors": 0.0, "matrices": weight_decay, "vectors": 0.0}
    return [{"params": params, "lr": lr, "weight_decay": decay[kind]} for kind, params in groups.items() if params]


def check_weight_decay(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise `ValueError` where an optimizer decays SORSA factors."""
    names = {id(p): name for name, p in model.named_parameters() if ".sorsa_" in f".{name}"}
    for group in optimizer.param_groups:
        decayed = [names[id(p)] for p in group["params"] if id(p) in names] if group.get("weight_decay") else []
        if decayed:
            raise ValueError(
                f"weight_decay={group['weight_decay']} applies to SORSA factors ({decayed[0]} and {len(decayed) - 1} more). It "
                "would pull the pretrained block to zero: set `weight_decay=0`, use `SorsaTrainer`, or build the optimizer "
                "from `sorsa_param_groups`"
            )
