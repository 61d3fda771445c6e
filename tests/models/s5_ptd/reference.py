# SPDX-License-Identifier: Apache-2.0
"""S5 written down once more, in float64 and complex numbers, step by step."""

import torch
from torch import Tensor


def complex_of(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.detach().double().contiguous())


def s5_reference(ssm, u: Tensor, deltas: Tensor | None = None) -> Tensor:
    """Output of a layer for `u (batch, length, features)`, both directions, by loops over the steps."""
    u = u.double()
    values = torch.complex(*(part.detach().double() for part in ssm.eigenvalues))
    steps, weight = ssm.step_sizes.detach().double(), ssm.state_weight.double()
    deltas = torch.ones(u.shape[:2]) if deltas is None else deltas
    y = ssm.D.detach().double() * u
    orders = [(ssm.C, range(u.shape[1]), deltas)]
    if ssm.config.bidirectional:
        after = torch.cat([deltas[:, 1:], torch.ones_like(deltas[:, :1])], 1)
        orders.append((ssm.C_backward, range(u.shape[1] - 1, -1, -1), after))
    for c, order, gaps in orders:
        state = torch.zeros(len(u), len(values), dtype=torch.complex128)
        for k in order:
            dt = steps * gaps[:, k, None].double()
            if ssm.config.discretization == "zoh":
                lbar, gain = (values * dt).exp(), torch.expm1(values * dt) / values
            else:
                lbar, gain = (1 + values * dt / 2) / (1 - values * dt / 2), dt / (1 - values * dt / 2)
            state = lbar * state + gain * (u[:, k].to(state.dtype) @ complex_of(ssm.B).mT)
            y[:, k] += ((weight * state) @ complex_of(c).mT).real
    return y
