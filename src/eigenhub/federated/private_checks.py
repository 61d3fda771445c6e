# SPDX-License-Identifier: Apache-2.0
"""What private training refuses before the first step, because the guarantee would silently not hold."""

from collections.abc import Sequence, Sized
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.data import IterableDataset

from eigenhub.federated.dp_config import check_count
from eigenhub.federated.extras import require


def check_private_model(model: nn.Module, device: torch.device) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, if per-example gradients of all of them can be had.

    Args:
        model (`nn.Module`): the model with its adapter.
        device (`torch.device`): where it is to be trained.

    Raises:
        ValueError: for what mixes examples, for trainable layers without per-example gradients, and for several
            processes; the message names the module or parameter.
    """
    _check_processes()
    _check_execution(model)
    _check_mixing(model)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trainable:
        raise ValueError("`model` has no trainable parameter")
    for name, parameter in trainable.items():
        _check_parameter(name, parameter, device)
    _check_owners(model)
    return trainable


def check_private_data(dataset: Any) -> Sequence[Any]:
    """`dataset`, if its examples can be drawn one by one.

    Args:
        dataset (`Any`): the client's data.

    Raises:
        ValueError: for a stream, and for no examples.
    """
    if isinstance(dataset, IterableDataset) or not (isinstance(dataset, Sized) and hasattr(dataset, "__getitem__")):
        raise ValueError(f"`dataset` must have a length and items for Poisson sampling, got {type(dataset).__name__}")
    check_count("len(dataset)", len(dataset))
    return dataset  # type: ignore[return-value]


def check_optimizer(optimizer: torch.optim.Optimizer, trainable: dict[str, nn.Parameter]) -> None:
    """Raise `ValueError` unless the optimizer holds exactly the trainable parameters: others would get no noise.

    Args:
        optimizer (`torch.optim.Optimizer`): what `optimizer_factory` made.
        trainable (`dict[str, nn.Parameter]`): parameters that need gradients.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in trainable.items() if id(parameter) not in held]
    if missing or len(held) != len(trainable):
        raise ValueError(
            f"`optimizer_factory` must put all {len(trainable)} trainable parameters and no others into the optimizer; "
            f"it holds {len(held)}, without {', '.join(missing) or 'none missing'}"
        )


def _check_processes() -> None:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise ValueError(
            f"private training runs in one process, found {distributed.get_world_size()}: each would draw its own Poisson "
            "batches and noise; start one process per client instead"
        )


def _check_execution(model: nn.Module) -> None:
    """Refuse what hides activations from hooks."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ValueError(f"`model` must be the model itself, got it inside {type(model).__name__}")
    for name, module in model.named_modules():
        if isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None:
            raise ValueError(f"`model` must not be compiled, but {name or 'it'} is: hooks see no activations there")
        if getattr(module, "gradient_checkpointing", False):
            raise ValueError(
                f"gradient checkpointing must be off, but is on in {name or 'the model'}: switch it off and use "
                "`physical_batch_size` to save memory"
            )
        if hasattr(module, "autograd_grad_sample_hooks"):
            raise ValueError(
                f"`model` carries hooks of another private run in {name or 'the model'}: clean it up first"
            )


def _check_mixing(model: nn.Module) -> None:
    """Refuse layers in which one example changes the gradient of another, frozen or not."""
    for name, module in model.named_modules():
        statistics = isinstance(module, _InstanceNorm) and module.track_running_stats
        if isinstance(module, _BatchNorm) or statistics:
            raise ValueError(
                f"`model` has {type(module).__name__} in {name}: it mixes the examples of a batch and keeps statistics of "
                "private data; replace it, for example by GroupNorm"
            )


def _check_parameter(name: str, parameter: nn.Parameter, device: torch.device) -> None:
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"trainable parameters must be float32 or float64, {name} is {parameter.dtype}: norms in half precision can "
            "exceed the clipping norm; keep adapters in float32 (`autocast_adapter_dtype=True`), the base may be half"
        )
    other = parameter.device
    if other.type != device.type or (device.index is not None and other.index != device.index):
        raise ValueError(f"`device` is {device}, but {name} is on {other}: move the model first")


def _check_owners(model: nn.Module) -> None:
    """Every trainable parameter belongs to one layer, and to one whose per-example gradients are known."""
    supported = require("opacus.grad_sample", "Private training").GradSampleHooks.GRAD_SAMPLERS
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for local, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            full = f"{name}.{local}".lstrip(".")
            if type(module) not in supported:
                known = ", ".join(sorted({kind.__name__ for kind in supported}))
                raise ValueError(
                    f"{full} cannot be trained privately: per-example gradients are not known for {type(module).__name__}, "
                    f"only for {known}; freeze it or adapt other modules"
                )
            if (first := owners.setdefault(id(parameter), full)) != full:
                raise ValueError(
                    f"{full} and {first} are one shared parameter: tied weights cannot be trained privately"
                )
