# SPDX-License-Identifier: Apache-2.0
"""A new adapter whose change of the weight is a weighted sum of the changes of others."""

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigenhub.linalg import truncated_product_svd, truncated_svd
from eigenhub.tuners.sorsa.config import SorsaConfig
from eigenhub.tuners.sorsa.factors import Factors
from eigenhub.tuners.sorsa.layer import FROZEN, TRAINED, SorsaLayer


if TYPE_CHECKING:
    from eigenhub.tuners.sorsa.model import SorsaModel

COMBINATIONS = ("cat", "svd")


def add_weighted_adapter(
    tuner: "SorsaModel", adapters: list[str], weights: list[float], adapter_name: str, combination_type: str = "cat"
) -> None:
    """Add `adapter_name` with the change `sum_i weights[i] * change(adapters[i])` in every layer.

    Args:
        tuner (`SorsaModel`): the tuner, `model.base_model` of a `PeftModel`.
        adapters (`list[str]`): adapters to combine.
        weights (`list[float]`): one factor each.
        adapter_name (`str`): name of the new adapter.
        combination_type (`str`, *optional*, defaults to `"cat"`): `"cat"` concatenates the factors, exact, at the sum of
            the ranks; its columns are no longer orthonormal, so it is for inference and not for further training. `"svd"`
            compresses to the largest of the ranks: the new initial factors are the truncated SVD of the base weight, the
            trained ones that of the initial block plus the weighted sum.

    Raises:
        ValueError: unknown adapter or combination, an existing name, or lists of different lengths.
    """
    _check_request(tuner, adapters, weights, adapter_name, combination_type)
    config = copy.deepcopy(tuner.peft_config[adapters[0]])
    ranks = [tuner.peft_config[name].r for name in adapters]
    config.r = sum(ranks) if combination_type == "cat" else max(ranks)
    config.alpha, config.rank_pattern, config.alpha_pattern = None, {}, {}
    config.target_modules = list(tuner.targeted_module_names)
    config.base_fingerprint = dict(config.base_fingerprint or {})
    config.init_weights, config.save_init = "checkpoint", True
    layers = [module for module in tuner.model.modules() if isinstance(module, SorsaLayer)]
    tuner.peft_config[adapter_name] = config
    try:
        for layer in layers:
            if present := [(name, w) for name, w in zip(adapters, weights, strict=True) if name in layer.sorsa_U]:
                _combine(layer, present, adapter_name, config, combination_type)
    except Exception:
        for layer in layers:
            layer.delete_adapter(adapter_name)
        del tuner.peft_config[adapter_name]
        raise


def _check_request(
    tuner: "SorsaModel", adapters: list[str], weights: list[float], adapter_name: str, combination_type: str
) -> None:
    if combination_type not in COMBINATIONS:
        raise ValueError(f"`combination_type` must be one of {', '.join(COMBINATIONS)}, got {combination_type!r}")
    if adapter_name in tuner.peft_config or adapter_name in tuner.prefix:
        raise ValueError(f"`adapter_name`={adapter_name!r} is taken or reserved")
    if not adapters or len(adapters) != len(weights):
        raise ValueError(
            f"`adapters` and `weights` must have the same length of at least 1, got {len(adapters)} and {len(weights)}"
        )
    if not all(math.isfinite(weight) for weight in weights):
        raise ValueError(f"`weights` must be finite, got {weights}")
    if any(tuner.peft_config[name].mode == "residual" for name in tuner.peft_config):
        raise ValueError("mode='residual' allows a single adapter: use mode='delta' for several")
    unknown = [name for name in adapters if name not in tuner.peft_config]
    if unknown:
        raise ValueError(f"`adapters` contains {unknown}, known are {sorted(tuner.peft_config)}")


@torch.no_grad()
def _combine(
    layer: SorsaLayer, parts: list[tuple[str, float]], new: str, config: SorsaConfig, combination_type: str
) -> None:
    scaled = [weight * layer.scaling[name] for name, weight in parts]
    pairs = [layer.factors(name) for name, _ in parts]
    if combination_type == "cat":
        trained = _concatenate([pair[0] for pair in pairs], scaled)
        frozen = _concatenate([pair[1] for pair in pairs], scaled)
    else:
        trained, frozen = _compress(layer, pairs, scaled, max(len(pair[0].s) for pair in pairs))
    rank = len(trained.s)
    if rank > min(layer.weight_shape):
        raise ValueError(
            f"the combined rank {rank} exceeds the limit {min(layer.weight_shape)} of module {layer.module_name!r}: use "
            "combination_type='svd'"
        )
    layer.update_layer(new, config, rank, None)
    if rank != config.r:
        config.rank_pattern[layer.module_name] = rank
    layer._set(new, TRAINED, trained)
    layer._set(new, FROZEN, frozen)
    layer.pending.discard(new)


def _concatenate(parts: list[Factors], scaled: list[float]) -> Factors:
    return Factors(
        torch.cat([part.u for part in parts], dim=1),
        torch.cat([scale * part.s for scale, part in zip(scaled, parts, strict=True)]),
        torch.cat([part.v for part in parts], dim=0),
    )


def _compress(
    layer: SorsaLayer, pairs: list[tuple[Factors, Factors]], scaled: list[float], rank: int
) -> tuple[Factors, Factors]:
    weight = layer.pretrained_weight()
    if weight is None:
        raise RuntimeError(
            f"combination_type='svd' needs the base weight of {layer.module_name!r}, which is on the meta device"
        )
    frozen = Factors(*truncated_svd(weight, rank))
    blocks: list[tuple[Tensor, Tensor]] = [(frozen.u * frozen.s, frozen.v)]
    for (after, before), scale in zip(pairs, scaled, strict=True):
        blocks += [(after.u * (scale * after.s), after.v), (before.u * (-scale * before.s), before.v)]
    left, right = torch.cat([block[0] for block in blocks], dim=1), torch.cat([block[1] for block in blocks], dim=0)
    return Factors(*truncated_product_svd(left, right, rank)), frozen
