# SPDX-License-Identifier: Apache-2.0
"""From the outputs at all steps of a sequence to one vector."""

import torch
from torch import Tensor

from eigenhub.models.state_space.padding import real_spans


def pool_sequence(hidden_states: Tensor, mask: Tensor | None, pooling: str) -> Tensor:
    """Mean over the real steps, or the last real step; zeros for a sequence without any.

    Args:
        hidden_states (`Tensor` of shape `(batch, length, features)`): outputs.
        mask (`Tensor` of shape `(batch, length)`, *optional*): nonzero at real steps.
        pooling (`str`): `"mean"` or `"last"`.

    Returns:
        `Tensor` of shape `(batch, features)`.
    """
    batch, length, _ = hidden_states.shape
    if length == 0:
        return hidden_states.sum(1)
    if mask is None:
        return hidden_states.mean(1) if pooling == "mean" else hidden_states[:, -1]
    mask = mask != 0
    if pooling == "last":
        end = real_spans(mask).end
        last = hidden_states[torch.arange(batch, device=end.device), (end - 1).clamp(min=0)]
        return torch.where((end > 0)[:, None], last, 0.0)
    total = torch.where(mask[..., None], hidden_states, 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)
