# SPDX-License-Identifier: Apache-2.0
"""Small models with SORSA adapters, for the tests of this folder."""

from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from eigenhub.tuners.sorsa import SorsaConfig, SorsaLayer
from tests.common.tuner_cases import LLAMA, move
from tests.support.models import tiny_llama


TRAINED = ("sorsa_U", "sorsa_S", "sorsa_V")
FROZEN = ("sorsa_U0", "sorsa_S0", "sorsa_V0")
IDS = LLAMA.inputs()["input_ids"]


class OneLinear(nn.Module):
    """A single layer called `linear` with a given weight."""

    def __init__(self, weight: Tensor, bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias, dtype=weight.dtype)
        with torch.no_grad():
            self.linear.weight.copy_(weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def random_weight(m: int, n: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(m, n, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def one_linear(weight: Tensor, bias: bool = False, **config: Any) -> tuple[PeftModel, SorsaLayer]:
    """An adapted `OneLinear` and its layer."""
    settings = {"r": 3, "target_modules": ["linear"]} | config
    model = get_peft_model(OneLinear(weight, bias), SorsaConfig(**settings))
    return model, layers_of(model)[0]


def adapted_llama(moved: bool = False, base: nn.Module | None = None, **config: Any) -> PeftModel:
    """A tiny Llama with `q_proj` and `v_proj` adapted."""
    settings = {"r": 2, "target_modules": ["q_proj", "v_proj"]} | config
    model = get_peft_model(tiny_llama() if base is None else base, SorsaConfig(**settings))
    if moved:
        move(model, "sorsa_")
    return model.eval()


def layers_of(model: nn.Module) -> list[SorsaLayer]:
    return [module for module in model.modules() if isinstance(module, SorsaLayer)]


def frames_of(model: nn.Module, adapter: str = "default") -> list[tuple[Tensor, Tensor]]:
    """Pairs (U, V) in float64, detached."""
    pairs = [(layer.sorsa_U[adapter], layer.sorsa_V[adapter]) for layer in layers_of(model)]
    return [(u.detach().double(), v.detach().double()) for u, v in pairs]


@torch.no_grad()
def logits(model: nn.Module, **keywords: Any) -> Tensor:
    return model(IDS, **keywords).logits


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
