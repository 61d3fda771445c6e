# SPDX-License-Identifier: Apache-2.0
"""Probes of made-up methods for the tests of the probes: a sound one, and one that breaks in every way."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.capabilities.cells import DoesNotApply
from tests.capabilities.probes import Probes
from tests.capabilities.training import ALL, TrainingProbes


class Block(nn.Linear):
    """The block whose recomputation is counted."""


class ToyModel(nn.Module):
    """A linear map with a switch for checkpointing."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.is_gradient_checkpointing = Block(3, 1), False

    def activation_checkpointing_enable(self) -> None:
        self.is_gradient_checkpointing = True

    def forward(self, x: Tensor) -> Tensor:
        if self.is_gradient_checkpointing:
            return torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False)
        return self.block(x)


class SoundProbes(TrainingProbes):
    slug = "toy"
    blocks = ("Block",)

    def model(self) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return ToyModel()

    def loss(self, model: nn.Module, rows: slice = ALL) -> Tensor:
        x = torch.arange(12.0).view(4, 3)[rows].sin()
        return (model(x.to(next(model.parameters()).dtype)).float() - 1).square().mean()

    def generate(self, folder: Path) -> str | None:
        raise DoesNotApply("a number is no text")


class Announced(ToyModel):
    """Says that it checkpoints, and does not."""

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Scaled(ToyModel):
    """Has other gradients under checkpointing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + self.is_gradient_checkpointing)


class BreaksGraph(ToyModel):
    def forward(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().forward(x)


class CompiledOtherwise(ToyModel):
    """Computes something else as soon as it is compiled."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if torch.compiler.is_compiling() else 1)


class Overflowing(ToyModel):
    """Without a finite loss in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / (0.0 if x.dtype == torch.bfloat16 else 1.0)


def probes_with(kind: type[nn.Module]) -> TrainingProbes:
    """The sound probes over another model."""

    class Broken(SoundProbes):
        def model(self) -> Any:
            model = kind()
            model.load_state_dict(super().model().state_dict())
            return model

    return Broken()


class Bare(Probes):
    """A method for which nobody has written a probe; its script and its Space do not exist."""

    slug = "bare"
