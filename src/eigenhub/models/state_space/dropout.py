# SPDX-License-Identifier: Apache-2.0
"""Dropout whose mask is the same at every step of a sequence."""

import torch.nn.functional as F
from torch import Tensor, nn


class SequenceDropout(nn.Module):
    """Dropout of whole features of a sequence, or of single entries.

    Args:
        p (`float`): probability of a zero.
        tied (`bool`): whether a sequence has one mask for all its steps, as in S5 and S4D.
    """

    def __init__(self, p: float, tied: bool) -> None:
        super().__init__()
        self.p, self.tied = p, tied

    def forward(self, hidden_states: Tensor) -> Tensor:  # [batch, length, features]
        if not self.training or self.p == 0:
            return hidden_states
        if not self.tied:
            return F.dropout(hidden_states, self.p)
        batch, _, features = hidden_states.shape
        return hidden_states * F.dropout(hidden_states.new_ones(batch, 1, features), self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}, tied={self.tied}"
