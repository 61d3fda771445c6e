# SPDX-License-Identifier: Apache-2.0
"""What some methods add to the base weights over the rounds, and an adapter that contains it."""

import copy
import math
from collections.abc import Mapping

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import Embedding, LoraLayer
from torch import Tensor

from eigenhub.federated.lora_keys import pair_lora_keys
from eigenhub.federated.lora_model import lora_layers
from eigenhub.federated.products import LowRankSum


class BaseWeights:
    """The base weights below an adapter, as they were and with a sum of low rank added.

    The sum is always added to the weights as they were, so that a run that resumes gets the same bits.

    Args:
        model (`PeftModel`): unwrapped, with floating base weights.
        adapter_name (`str`, *optional*, defaults to `"default"`): whose layers.

    Raises:
        ValueError: for quantised base weights, to which nothing can be added.
    """

    def __init__(self, model: PeftModel, adapter_name: str = "default") -> None:
        self.layers = lora_layers(model, adapter_name)
        for name, layer in self.layers.items():
            weight = weight_of(layer)
            if not weight.is_floating_point() or hasattr(weight, "quant_state"):
                raise ValueError(f"layer `{name}` has a quantised base: FedEx and FLoRA add to the base weights")
        self.originals = {name: weight_of(layer).detach().clone() for name, layer in self.layers.items()}

    def write(self, sums: Mapping[str, LowRankSum]) -> None:
        """Set every base weight to its original plus the layer's sum.

        Args:
            sums (`Mapping[str, LowRankSum]`): by layer, scaled, in the shape (d_out, d_in).
        """
        with torch.no_grad():
            for name, total in sums.items():
                weight, original = weight_of(self.layers[name]), self.originals[name]
                delta = oriented(self.layers[name], torch.mm(*total.factors()))
                weight.copy_(original + delta.reshape(original.shape).to(original))

    def restore(self) -> None:
        """Set every base weight to its original."""
        with torch.no_grad():
            for name, original in self.originals.items():
                weight_of(self.layers[name]).copy_(original)


def weight_of(layer: LoraLayer) -> Tensor:
    """The weight below an adapter.

    Args:
        layer (`LoraLayer`): around the module that has it.
    """
    return layer.get_base_layer().weight  # type: ignore[return-value]  # mixed into an nn.Module


def oriented(layer: LoraLayer, delta: Tensor) -> Tensor:
    """A matrix (d_out, d_in) as the layer stores its weight: GPT-2's Conv1D and embeddings keep the transpose.

    Args:
        layer (`LoraLayer`): of the weight.
        delta (`Tensor` of shape `(d_out, d_in)`): what is to be added.
    """
    return delta.mT if getattr(layer, "fan_in_fan_out", False) or isinstance(layer, Embedding) else delta


def contained_adapter(
    config: LoraConfig, state: Mapping[str, Tensor], sums: Mapping[str, LowRankSum], scalings: Mapping[str, float]
) -> tuple[LoraConfig, dict[str, Tensor]]:
    r"""An adapter of higher rank that is right on the original base: $s B A + L R = s\,[B, L/s]\,[A; R]$.

    Args:
        config (`LoraConfig`): of the adapter.
        state (`Mapping[str, Tensor]`): of the adapter.
        sums (`Mapping[str, LowRankSum]`): what was added to the base weights, by layer.
        scalings (`Mapping[str, float]`): s of every layer.

    Returns:
        Its configuration, with a rank and alpha per layer, and its state.
    """
    config, state = copy.deepcopy(config), dict(state)
    config.rank_pattern, config.alpha_pattern = dict(config.rank_pattern or {}), dict(config.alpha_pattern or {})
    for name, pair in pair_lora_keys(state).items():
        if name not in sums:
            continue
        left, right = sums[name].compressed()
        a, b, scaling = state[pair.A], state[pair.B], scalings[name]
        state[pair.A] = torch.cat([a, right.to(a).reshape(-1, *a.shape[1:])])
        state[pair.B] = torch.cat([b, (left / scaling).to(b).reshape(len(b), -1, *b.shape[2:])], dim=1)
        rank = len(state[pair.A])
        key = name.removeprefix("base_model.model.")
        config.rank_pattern[key] = rank
        config.alpha_pattern[key] = scaling * (math.sqrt(rank) if config.use_rslora else rank)
    return config, state
