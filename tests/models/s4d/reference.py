# SPDX-License-Identifier: Apache-2.0
"""S4D written down once more, in float64 and complex numbers."""

import torch
from torch import Tensor


def complex_of(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.detach().double().contiguous())


def discrete_system(ssm, rate: float = 1.0) -> tuple[Tensor, Tensor]:
    """Eigenvalues and input map, `(channels, states)`."""
    channels = ssm.config.hidden_size
    values = torch.complex(*(part.detach().double() for part in ssm.eigenvalues))
    step = ssm.step_sizes.detach().double() * rate
    step = step if step.ndim == 2 else step[:, None]
    b = complex_of(ssm.B).repeat(channels // len(ssm.B), 1)
    z = values * step
    if ssm.config.discretization == "bilinear":
        return (1 + z / 2) / (1 - z / 2), b * step / (1 - z / 2)
    return z.exp(), b * torch.expm1(z) / values


def kernels(ssm, length: int, rate: float = 1.0) -> list[Tensor]:
    """`(channels, length)` of each direction, real eigenvalues counted once."""
    lbar, bbar = discrete_system(ssm, rate)
    powers = lbar[..., None] ** torch.arange(length)
    maps = [c for c in (ssm.C, ssm.C_backward) if c is not None]
    weight = ssm.state_weight.double()
    return [torch.einsum("hn,hnl->hl", weight * complex_of(c) * bbar, powers).real for c in maps]


def s4d_reference(ssm, u: Tensor, rate: float = 1.0) -> Tensor:
    """Output by explicit double sums; the current step belongs to the forward kernel only."""
    u, length = u.double(), u.shape[1]
    forward, *backward = kernels(ssm, length, rate)
    y = ssm.D.detach().double() * u
    for t in range(length):
        for s in range(t + 1):
            y[:, t] += forward[:, t - s] * u[:, s]
        for s in range(t + 1, length) if backward else ():
            y[:, t] += backward[0][:, s - t - 1] * u[:, s]
    return y
