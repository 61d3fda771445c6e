# SPDX-License-Identifier: Apache-2.0
"""What training has done to the spectrum: the paper's metrics, and principal angles beside them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eigenhub.linalg import orthonormality_defect, subspace_angles
from eigenhub.tuners.sorsa.layer import SorsaLayer


@dataclass(frozen=True)
class LayerSpectrum:
    """Spectrum of one adapted module.

    Attributes:
        s0 (`Tensor` of shape `(r,)`): initial singular values, descending.
        s (`Tensor` of shape `(r,)`): trained `S`, sorted by modulus for display; a negative entry is a flipped vector.
        defect_u (`float`): `||U^T U - I||_F`.
        defect_v (`float`): `||V V^T - I||_F`.
        kappa (`float`): `sigma_1 / sigma_r` of `U diag(S) V`.
        kappa0 (`float`): the same at initialisation.
        angle (`float`): largest principal angle between the column spaces of `U` and `U0`, in radians.
    """

    s0: Tensor
    s: Tensor
    defect_u: float
    defect_v: float
    kappa: float
    kappa0: float
    angle: float


@torch.no_grad()
def spectrum_report(model: nn.Module, adapter_name: str = "default") -> dict[str, LayerSpectrum]:
    """The spectrum of every module adapted by `adapter_name`, from the factors alone.

    Args:
        model (`nn.Module`): any model with SORSA layers inside, wrapped or not.
        adapter_name (`str`, *optional*, defaults to `"default"`): the adapter.

    Raises:
        ValueError: the model has no such SORSA adapter.
    """
    report = {
        layer.module_name: _layer_spectrum(layer, adapter_name)
        for layer in model.modules()
        if isinstance(layer, SorsaLayer) and adapter_name in layer.sorsa_U
    }
    if not report:
        raise ValueError(f"`adapter_name`={adapter_name!r} is not a SORSA adapter of this model")
    return report


def _layer_spectrum(layer: SorsaLayer, adapter: str) -> LayerSpectrum:
    (u, s, v), (u0, s0, _) = layer.factors(adapter)
    u, v, u0 = u.double(), v.double(), u0.double()
    # The values of U diag(S) V, whose factors are only nearly orthonormal, through their small triangular parts.
    q_u, r_u = torch.linalg.qr(u)
    values = torch.linalg.svdvals((r_u * s.double()) @ torch.linalg.qr(v.mT).R.mT)
    return LayerSpectrum(
        s0=s0.float().cpu(),
        s=s[s.abs().argsort(descending=True)].float().cpu(),
        defect_u=orthonormality_defect(u).item(),
        defect_v=orthonormality_defect(v.mT).item(),
        kappa=_condition(values),
        kappa0=_condition(s0.double()),
        angle=subspace_angles(q_u, u0)[0].item(),
    )


def _condition(values: Tensor) -> float:
    return (values[0] / values[-1]).item() if values[-1] > 0 else float("inf")


@dataclass(frozen=True)
class Drift:
    r"""How far a weight has moved from its pretrained value, over its whole SVD.

    Attributes:
        values (`float`): $\Delta\Sigma = \mathrm{mean}_i |\sigma_i(t) - \sigma_i(0)|$.
        vectors (`float`): $\Delta D = 1 - \mathrm{mean}_i (|u_i(t)^\top u_i(0)| + |v_i(t)^\top v_i(0)|) / 2$, matched by
            index as in the paper; it jumps where two singular values cross.
        angle (`float`): mean principal angle between the leading `r`-dimensional left subspaces, in radians, which does
            not jump.
    """

    values: float
    vectors: float
    angle: float


@torch.no_grad()
def weight_drift(model: nn.Module, adapter_name: str = "default") -> dict[str, Drift]:
    """The paper's drift metrics for every adapted module. Two dense SVDs per module: for analysis, not for logging.

    Args:
        model (`nn.Module`): any model with SORSA layers inside, wrapped or not.
        adapter_name (`str`, *optional*, defaults to `"default"`): the adapter.

    Raises:
        ValueError: the model has no such SORSA adapter.
    """
    drifts = {}
    for layer in model.modules():
        if isinstance(layer, SorsaLayer) and adapter_name in layer.sorsa_U:
            pretrained = layer.pretrained_weight()
            if pretrained is None:
                raise ValueError(f"the base weight of module {layer.module_name!r} is on the meta device")
            weight = pretrained.double()
            delta = layer.get_delta_weight(adapter_name).double()
            moved = weight + (delta.mT if layer.is_transposed else delta)
            drifts[layer.module_name] = _drift(weight, moved, layer.r[adapter_name])
    if not drifts:
        raise ValueError(f"`adapter_name`={adapter_name!r} is not a SORSA adapter of this model")
    return drifts


def _drift(before: Tensor, after: Tensor, rank: int) -> Drift:
    u0, s0, v0 = torch.linalg.svd(before, full_matrices=False)
    u, s, v = torch.linalg.svd(after, full_matrices=False)
    cosines = ((u * u0).sum(0).abs() + (v * v0).sum(1).abs()) / 2
    angles = subspace_angles(u[:, :rank], u0[:, :rank])
    return Drift((s - s0).abs().mean().item(), 1 - cosines.mean().item(), angles.mean().item())
