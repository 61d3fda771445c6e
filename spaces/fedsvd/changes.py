# SPDX-License-Identifier: Apache-2.0
"""What a run has changed in the model's weights, and how far two runs are apart; the changes themselves are never formed."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from eigenhub.federated import FederatedServer, aggregation_error, pair_lora_keys
from eigenhub.federated.products import LowRankSum


def total_change(server: FederatedServer) -> dict[str, LowRankSum]:
    """By layer, s B A and what was added to the base weights."""
    sums = {}
    for name, pair in pair_lora_keys(server.state).items():
        added = server.base_sums.get(name)
        total = sums[name] = LowRankSum(*added.factors()) if added else LowRankSum()
        total.add(server.state[pair.B], server.state[pair.A], server.scalings[name])
    return sums


def singular_values(server: FederatedServer, most: int) -> dict[str, list[float]]:
    """The largest singular values of the change of every layer, descending."""
    return {short(name): total.svd()[1][:most].tolist() for name, total in total_change(server).items()}


def distance(one: FederatedServer, other: FederatedServer) -> float:
    """How far the changes of two runs are apart over all layers, relative to the first (Frobenius norms)."""
    theirs = total_change(other)
    apart = size = 0.0
    for name, total in total_change(one).items():
        size += squared_norm(total)
        total.add(*theirs[name].factors(), coefficient=-1.0)
        apart += squared_norm(total)
    return (apart / size) ** 0.5 if size else 0.0


def squared_norm(total: LowRankSum) -> float:
    """From the singular values: Gram matrices of the factors would lose half of the digits of a difference."""
    return float(total.svd()[1].square().sum())


def averaging_error(
    broadcast: Mapping[str, Tensor], uploads: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None
) -> float:
    """How far the product of the mean factors is from the mean product, relative to it; what was not sent is as broadcast."""
    factors = [key for pair in pair_lora_keys(broadcast).values() for key in pair]  # the head is no product
    return aggregation_error([{key: {**broadcast, **upload}[key] for key in factors} for upload in uploads], weights)


def short(name: str) -> str:
    """The name of a layer without what all of them begin with: `layer 0, q_proj`."""
    parts = name.split(".")
    number = next((part for part in parts if part.isdigit()), None)
    return parts[-1] if number is None else f"layer {number}, {parts[-1]}"
