# SPDX-License-Identifier: Apache-2.0
"""An adapter before and after the server's step of FedSVD, layer by layer."""

import math
from dataclasses import dataclass

import torch
from adapters import WEIGHTS, Adapter
from safetensors.torch import save_file
from torch import Tensor

from eigenhub.federated import pair_lora_keys
from eigenhub.federated.lora_keys import as_matrix
from eigenhub.federated.products import LowRankSum
from eigenhub.federated.refactor import refactored
from eigenhub.hub.space import download_folder


@dataclass(frozen=True)
class Layer:
    """
    One layer of an adapter.

    Args:
        name (`str`): of the layer.
        shape (`tuple[int, int]`): of the weight, outputs and inputs.
        rank (`int`): of the adapter there.
        effective_rank (`int`): singular values above rounding.
        kappa (`float`): condition number of A as it came; infinite for a singular one.
        new_kappa (`float`): of A refactored.
        singular_values (`list[float]`): of B A, descending.
        error (`float`): how far the new product is from the old one, relative to it.
    """

    name: str
    shape: tuple[int, int]
    rank: int
    effective_rank: int
    kappa: float
    new_kappa: float
    singular_values: list[float]
    error: float


def refactor(adapter: Adapter) -> tuple[dict[str, Tensor], list[Layer]]:
    """The refactored tensors under the same keys, with everything else as it was, and what was found."""
    new, found = refactored(adapter.state)
    layers = []
    for name, pair in pair_lora_keys(adapter.state).items():
        a, b = (as_matrix(adapter.state[key]) for key in pair)
        new_a, new_b = (as_matrix(new[key]) for key in pair)
        values = found[name].singular_values
        apart = LowRankSum(new_b, new_a)
        apart.add(b, a, coefficient=-1.0)
        error = float(apart.svd()[1].norm() / values.norm()) if values.any() else 0.0
        shape, effective_rank = (b.shape[0], a.shape[1]), int(found[name].effective_rank)
        layers.append(Layer(name, shape, len(a), effective_rank, kappa(a), kappa(new_a), values.tolist(), error))
    return {**adapter.state, **new}, layers


def kappa(matrix: Tensor) -> float:
    """Largest over smallest singular value."""
    values = torch.linalg.svdvals(matrix.double())
    return float(values[0] / values[-1]) if values[-1] > 0 else math.inf


def write_refactored(adapter: Adapter, state: dict[str, Tensor]) -> str:
    """Path of the new file: the same keys, shapes and dtypes, so it takes the place of the old one."""
    path = download_folder() / WEIGHTS
    save_file(
        {key: tensor.contiguous() for key, tensor in state.items()},
        path,
        metadata={"format": "pt", **adapter.metadata},
    )
    return str(path)
