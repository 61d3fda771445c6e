# SPDX-License-Identifier: Apache-2.0
"""HiPPO-LegS without any diagonalisation, as a reference to put into an S4D layer: the kernel by powers of dense matrices."""

import torch
from torch import Tensor, nn

from eigenhub.linalg.fft_convolution import fft_convolution
from eigenhub.linalg.hippo import hippo_legs
from eigenhub.models.s4d import S4DConfig


def dense_states(n: int, step_sizes: Tensor, length: int) -> Tensor:
    """Impulse responses `(channels, n, length)` of the states of HiPPO-LegS under zero-order hold, in float64.

    Args:
        n (`int`): order.
        step_sizes (`Tensor` of shape `(channels,)`): time steps.
        length (`int`): number of steps.
    """
    a, b, _ = hippo_legs(n)
    discrete = torch.linalg.matrix_exp(step_sizes.double()[:, None, None] * a)
    state = torch.linalg.solve(a, (discrete - torch.eye(n, dtype=a.dtype)) @ b[:, None])
    states = []
    for _ in range(length):
        states.append(state[..., 0])
        state = discrete @ state
    return torch.stack(states, -1)


class DenseHippoSSM(nn.Module):
    """In place of `S4DSSM`, with everything but C and D frozen.

    Args:
        config (`S4DConfig`): size of the layer.
        step_sizes (`Tensor` of shape `(channels,)`): time steps.
        length (`int`): longest sequence.
    """

    def __init__(self, config: S4DConfig, step_sizes: Tensor, length: int) -> None:
        super().__init__()
        self.step_sizes = step_sizes
        self.states = dense_states(config.state_size, step_sizes, length).float()
        self.C = nn.Parameter(torch.randn(config.hidden_size, config.state_size))
        self.D = nn.Parameter(torch.randn(config.hidden_size))

    def forward(self, u: Tensor, *unused: object) -> tuple[Tensor, None, None]:
        kernel = torch.einsum("hn,hnl->hl", self.C, self.states[..., : u.shape[1]])
        return fft_convolution(u, kernel) + self.D * u, None, None
