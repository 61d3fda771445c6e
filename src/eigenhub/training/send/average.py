# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of the trained weights, the cheap control."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class WeightAverage:
    """Average of all parameters that are trained, in float32 or better; sharded parameters stay sharded.

    Args:
        model (`nn.Module`): after it was sharded.
        decay (`float`): weight of the average at each update.

    Raises:
        ValueError: parameters of which every process has a piece that cannot be put together again.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.model = decay, model
        _reshard(model)  # only the shards are what the optimizer moves
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for name, parameter in self.parameters.items():
            if not parameter.numel() or hasattr(parameter, "_is_flat_param"):
                raise ValueError(
                    f"`model` must have its parameters whole or in shards of FSDP2 to be averaged; {name} is flattened or "
                    "empty, as under FSDP1 and DeepSpeed ZeRO-3"
                )
        self.values = {name: _wide(p) for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """After an optimizer step."""
        for name, parameter in self.parameters.items():
            self.values[name].mul_(self.decay).add_(
                parameter.detach().to(self.values[name].dtype), alpha=1 - self.decay
            )

    @torch.no_grad()
    def write(self) -> None:
        """Puts the average into the model."""
        _reshard(self.model)
        for name, parameter in self.parameters.items():
            parameter.copy_(self.values[name].to(parameter.dtype))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A block in which the model has the average for weights."""
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.write()
        try:
            yield
        finally:
            _reshard(self.model)
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(kept[name])

    def state(self) -> dict[str, Tensor]:
        """Whole tensors on the CPU; collective where parameters are sharded."""
        return {name: _whole(value).cpu().contiguous() for name, value in self.values.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes in what [`state`] gave.

        Args:
            state (`Mapping[str, Tensor]`): whole tensors.
        """
        if state.keys() != self.values.keys():
            odd = sorted(state.keys() ^ self.values.keys())[:3]
            raise ValueError(f"`state` must hold the averages of the trained parameters; of one side only: {odd}")
        for name, value in self.values.items():
            value.copy_(_like(state[name], value))


def _wide(parameter: Tensor) -> Tensor:
    copy = parameter.detach().clone()
    return copy.to(torch.promote_types(copy.dtype, torch.float32))


def _reshard(model: nn.Module) -> None:
    """FSDP2 keeps what it has gathered for an evaluation, and would go on with that instead of what is written."""
    if not dist.is_available():
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _whole(value: Any) -> Tensor:
    if not hasattr(value, "full_tensor"):
        return value
    whole = value.full_tensor()
    return whole.wait() if hasattr(whole, "wait") else whole  # on a CPU no copy would wait for the others


def _like(whole: Tensor, value: Any) -> Tensor:
    """The whole tensor split as the other one is."""
    if not hasattr(value, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(value.device, value.dtype), value.device_mesh, value.placements)
