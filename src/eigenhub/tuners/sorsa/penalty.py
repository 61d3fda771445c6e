# SPDX-License-Identifier: Apache-2.0
"""The orthonormality penalty R of an adapted model, as a differentiable value and as a gradient written in place."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from peft.utils.integrations import gather_params_ctx
from torch import Tensor, nn

from eigenhub.linalg.orthogonal import gram_defect, orthonormality_defect, smooth_norm
from eigenhub.linalg.precision import full_precision_matmul
from eigenhub.tuners.sorsa.config import SorsaConfig
from eigenhub.tuners.sorsa.layer import LOW_PRECISION, SorsaLayer


class Matrix(NamedTuple):
    """One regularised matrix as a tall frame, with its weight 1/N (or 1) in the penalty."""

    name: str
    parameter: nn.Parameter
    transposed: bool
    share: float
    config: SorsaConfig

    def frame(self) -> Tensor:
        """The parameter with its orthonormal direction as columns, in float32 or better."""
        wide = torch.promote_types(self.parameter.dtype, torch.float32)
        # A ZeRO-3 partition is gathered only inside its context: the graph must hold a copy.
        x = self.parameter.clone() if hasattr(self.parameter, "ds_id") else self.parameter
        return (x.mT if self.transposed else x).to(wide)

    @property
    def eps(self) -> float:
        """Smoothing; below the rounding floor of half-precision factors the norm would only measure that floor."""
        if self.parameter.dtype not in LOW_PRECISION:
            return self.config.reg_eps
        rank = self.parameter.shape[0 if self.transposed else 1]
        return max(self.config.reg_eps, math.sqrt(rank) * torch.finfo(self.parameter.dtype).eps)


def regularized_matrices(model: nn.Module, adapter_names: list[str] | str | None = None) -> list[Matrix]:
    """Every U and V of the given adapters (by default each layer's active ones).

    Raises:
        ValueError: the model has no such adapter.
    """
    names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
    found: dict[str, list[tuple[str, SorsaLayer]]] = {}
    for module_name, layer in model.named_modules():
        if isinstance(layer, SorsaLayer):
            for adapter in layer.active_adapters if names is None else names:
                if adapter in layer.sorsa_U:
                    layer.settle(adapter)
                    found.setdefault(adapter, []).append((module_name, layer))
    if not found:
        raise ValueError(f"the model has no SORSA adapter {'that is active' if names is None else names}")
    matrices = []
    for adapter, layers in found.items():
        for module_name, layer in layers:
            config = layer.sorsa_config[adapter]
            share = 1.0 if config.reg_reduction == "sum" else 0.5 / len(layers)
            matrices += [
                Matrix(f"{module_name}.U", layer.sorsa_U[adapter], False, share, config),
                Matrix(f"{module_name}.V", layer.sorsa_V[adapter], True, share, config),
            ]
    return matrices


@contextmanager
def _exact(matrices: list[Matrix]) -> Iterator[None]:
    """Full-precision products, over whole matrices under ZeRO-3."""
    parameters = [matrix.parameter for matrix in matrices]
    with gather_params_ctx(parameters, modifier_rank=None), full_precision_matmul(parameters[0].device.type):
        yield


def orthonormality_penalty(
    model: nn.Module, adapter_names: list[str] | str | None = None, weighted: bool = False
) -> Tensor:
    r"""$R = \frac{1}{2L} \sum_l \lVert U_l^\top U_l - I \rVert + \lVert V_l V_l^\top - I \rVert$, smoothed by `reg_eps`.

    Several active adapters add up, each with its own mean. Computed in float32 or better, outside autocast, with TF32 off.

    Args:
        model (`nn.Module`): any model with SORSA layers inside, wrapped or not.
        adapter_names (`list[str] | str`, *optional*): by default each layer's active adapters.
        weighted (`bool`, *optional*, defaults to `False`): multiply by each adapter's `reg_weight`.

    Returns:
        Scalar `Tensor`, differentiable with respect to `sorsa_U` and `sorsa_V`.

    Raises:
        ValueError: no such adapter.
    """
    matrices = regularized_matrices(model, adapter_names)
    with _exact(matrices):
        device = matrices[0].parameter.device
        terms = [
            matrix.share
            * (matrix.config.reg_weight if weighted else 1.0)
            * orthonormality_defect(matrix.frame(), matrix.eps).to(device)
            for matrix in matrices
        ]
        return torch.stack(terms).sum()


@torch.no_grad()
def exact_defects(model: nn.Module, adapter_names: list[str] | str | None = None) -> dict[str, float]:
    r"""Plain $\lVert U^\top U - I \rVert_F$ and $\lVert V V^\top - I \rVert_F$ by module, for logging.

    Returns:
        `dict` from `"<module>.U"` and `"<module>.V"` to the defect.
    """
    matrices = regularized_matrices(model, adapter_names)
    with _exact(matrices):
        defects = torch.stack([orthonormality_defect(matrix.frame()).cpu() for matrix in matrices])
    return dict(zip([matrix.name for matrix in matrices], defects.tolist(), strict=True))


@torch.no_grad()
def penalty_gradients(
    model: nn.Module, adapter_names: list[str] | str | None = None
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    r"""Weighted gradients $2\lambda\,U (U^\top U - I) / (N \lVert U^\top U - I \rVert)$ in closed form, without a graph.

    One product for the Gram matrix and one for the gradient per matrix. They come one by one, so that no second copy of
    all factors exists at a time.
    """
    matrices = regularized_matrices(model, adapter_names)
    with _exact(matrices):
        for matrix in matrices:
            yield matrix.parameter, _closed_form(matrix)


def _closed_form(matrix: Matrix) -> Tensor:
    frame, parameter = matrix.frame(), cast(Any, matrix.parameter)
    defect = gram_defect(frame)
    eps = matrix.eps
    # d sqrt(f^2 + eps^2) = f df / sqrt(f^2 + eps^2); the clamp only matters for eps = 0 at an exact frame
    size = (smooth_norm(defect, eps) + eps).clamp_min(torch.finfo(defect.dtype).tiny)
    factor = 2.0 * matrix.config.reg_weight * matrix.share * defect / size
    sharded = hasattr(frame, "device_mesh")
    product = frame @ (replicate_like(factor, frame) if sharded else factor)
    gradient: Any = (product.mT if matrix.transposed else product).to(parameter.dtype)
    return gradient.redistribute(placements=parameter.placements) if sharded else gradient


def replicate_like(local: Tensor, sharded: Any) -> Tensor:
    """A tensor that every rank has computed alike, as a `DTensor` on the mesh of `sharded`."""
    from torch.distributed.tensor import DTensor, Replicate

    mesh = sharded.device_mesh
    return DTensor.from_local(local, mesh, [Replicate()] * mesh.ndim, run_check=False)
