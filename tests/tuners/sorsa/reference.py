# SPDX-License-Identifier: Apache-2.0
"""SORSA written down again from its formulas, densely and in float64, to test the implementation against."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eigenhub.tuners.sorsa import SorsaLayer


@dataclass
class DenseSorsa:
    """`W + s (U diag(S) V - U0 diag(S0) V0)` as one dense matrix, with autograd through every product."""

    weight: Tensor
    u: Tensor
    s: Tensor
    v: Tensor
    u0: Tensor
    s0: Tensor
    v0: Tensor
    scale: float

    @classmethod
    def of(cls, layer: SorsaLayer, adapter: str = "default") -> "DenseSorsa":
        """The factors that a layer holds, as float64 leaves."""
        base = layer.get_base_layer().weight.detach().double()
        names = ("sorsa_U", "sorsa_S", "sorsa_V", "sorsa_U0", "sorsa_S0", "sorsa_V0")
        factors = [getattr(layer, name)[adapter].detach().double().clone().requires_grad_() for name in names]
        weight = base.mT if factors[0].shape[0] != base.shape[0] else base
        return cls(weight, *factors, layer.scaling[adapter])

    def delta(self) -> Tensor:
        trained = self.u @ torch.diag(self.s) @ self.v
        return self.scale * (trained - self.u0 @ torch.diag(self.s0) @ self.v0)

    def effective(self) -> Tensor:
        return self.weight + self.delta()


def dense_penalty(frames: list[tuple[Tensor, Tensor]], eps: float = 0.0) -> Tensor:
    """`(1/N) sum ||U^T U - I||_F + ||V V^T - I||_F` over pairs `(U, V)`, each norm smoothed by `eps`."""
    norms = []
    for u, v in frames:
        for gram in (u.mT @ u, v @ v.mT):
            square = (gram - torch.eye(len(gram), dtype=gram.dtype)).pow(2).sum()
            norms.append((square + eps**2).sqrt() - eps)
    return torch.stack(norms).mean()


def aligned_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference of rows after matching their signs."""
    signs = torch.sign((found * expected).sum(1, keepdim=True))
    return (found * signs - expected).abs().max().item()
