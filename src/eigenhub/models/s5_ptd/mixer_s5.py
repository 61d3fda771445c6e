# SPDX-License-Identifier: Apache-2.0
"""The S5 layer with its nonlinearity."""

import torch.nn.functional as F
from torch import Tensor, nn

from eigenhub.models.s5_ptd.configuration_s5_ptd import S5Config
from eigenhub.models.s5_ptd.ssm_s5 import S5SSM
from eigenhub.models.state_space.dropout import SequenceDropout


def gelu(x: Tensor) -> Tensor:
    """GELU by the tanh approximation, flax's default.

    Args:
        x (`Tensor`): input.
    """
    return F.gelu(x, approximate="tanh")


class S5Gate(nn.Module):
    r"""Nonlinearity between the features of a step, with $g = \mathrm{drop}(\mathrm{gelu}(x))$.

    | activation | output |
    | --- | --- |
    | `"full_glu"` | $W_1 g \odot \sigma(W_2 g)$ |
    | `"half_glu1"` | $g \odot \sigma(W_2 g)$ |
    | `"half_glu2"` | $x \odot \sigma(W_2 g)$ |
    | `"gelu"` | $\mathrm{gelu}(x)$ |

    The dropout that ends all four is the block's.

    Args:
        config (`S5Config`): configuration.
    """

    def __init__(self, config: S5Config) -> None:
        super().__init__()
        size, self.activation = config.hidden_size, config.activation
        self.value = nn.Linear(size, size) if self.activation == "full_glu" else None
        self.gate = nn.Linear(size, size) if self.activation != "gelu" else None
        self.dropout = SequenceDropout(config.hidden_dropout, config.tie_dropout)

    def forward(self, x: Tensor) -> Tensor:  # [batch, length, features]
        if self.gate is None:
            return gelu(x)
        g = self.dropout(gelu(x))
        main = x if self.activation == "half_glu2" else g if self.value is None else self.value(g)
        return main * self.gate(g).sigmoid()


class S5Mixer(nn.Module):
    """What a block of S5 adds to its input.

    Args:
        config (`S5Config`): configuration.
    """

    def __init__(self, config: S5Config) -> None:
        super().__init__()
        self.ssm = S5SSM(config)
        self.activation = S5Gate(config)

    def forward(
        self,
        hidden_states: Tensor,
        mask: Tensor | None = None,
        state: Tensor | None = None,
        time_deltas: Tensor | None = None,
        return_state: bool = False,
        return_states: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See [`S5SSM`]."""
        y, state, states = self.ssm(hidden_states, mask, state, time_deltas, return_state, return_states)
        return self.activation(y), state, states

    def noise_steps(self) -> Tensor:
        """Time step by which a test noise is clocked: one number, the geometric mean over the states."""
        return self.ssm.step_sizes.log().mean().exp()
