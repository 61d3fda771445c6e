# SPDX-License-Identifier: Apache-2.0
"""Normalisation of sequences: layer norm, and a batch norm whose statistics know nothing of pads."""

import logging

import torch
from torch import Tensor, nn

from eigenhub.models.state_space.precision import Float32Parameters


logger = logging.getLogger(__name__)

LAYER_NORM_EPS = 1e-6
BATCH_NORM_EPS = 1e-5


class MaskedBatchNorm(Float32Parameters, nn.Module):
    """Batch norm over batch and time that leaves pads out of its statistics.

    Not a subclass of torch's: `SyncBatchNorm.convert_sync_batchnorm` would put a layer there that counts pads and expects
    another layout. Running statistics hold the biased variance as in flax, so that a single step is no division by zero.

    Args:
        num_features (`int`): number of features.
        momentum (`float`): share of a running statistic that stays at each update, flax's convention (torch's is
            one minus that).
        eps (`float`, *optional*, defaults to 1e-5): added to the variance.
    """

    float32_names = ("running_mean", "running_var")
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, momentum: float, eps: float = BATCH_NORM_EPS) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.empty(num_features))
        self.bias = nn.Parameter(torch.empty(num_features))
        self.register_buffer("running_mean", torch.empty(num_features))
        self.register_buffer("running_var", torch.empty(num_features))
        self._warned = False

    def forward(self, hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:  # [batch, length, features]
        rows = hidden_states.flatten(0, 1)
        if mask is None:
            return self._normalize(rows).view_as(hidden_states)
        real = mask.flatten().nonzero()[:, 0]
        normal = self._normalize(rows.index_select(0, real))
        return torch.zeros_like(rows).index_copy(0, real, normal).view_as(hidden_states)

    def _normalize(self, rows: Tensor) -> Tensor:  # [steps, features]
        wide = rows.float() if rows.dtype in (torch.bfloat16, torch.float16) else rows
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        if not self.training or len(rows) == 0:
            scale = weight * (self.running_var.to(wide.dtype) + self.eps).rsqrt()
            return ((wide - self.running_mean.to(wide.dtype)) * scale + bias).to(rows.dtype)
        self._warn(len(rows))
        normal, mean, inverse_std = torch.native_batch_norm(wide, weight, bias, None, None, True, 0.0, self.eps)
        self._update(mean, inverse_std.pow(-2) - self.eps)
        return normal.to(rows.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean), 1 - self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), 1 - self.momentum)

    def _warn(self, steps: int) -> None:
        if self._warned or torch.compiler.is_compiling():
            return
        if steps == 1:
            logger.warning("batch norm over a single step returns its bias: use a larger batch or `norm_type='layer'`")
            self._warned = True
        elif (
            torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_world_size() > 1
        ):
            logger.warning("batch norm statistics are those of each process alone: keep the batch per process large")
            self._warned = True

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, momentum={self.momentum}, eps={self.eps}"


class SequenceLayerNorm(nn.LayerNorm):
    """Layer norm of each step, with the signature of [`MaskedBatchNorm`]."""

    def forward(self, hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:  # [batch, length, features]
        return super().forward(hidden_states)


class NoNorm(nn.Module):
    """Nothing, with the same signature."""

    def forward(self, hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:  # [batch, length, features]
        return hidden_states


def make_norm(norm_type: str, num_features: int, momentum: float) -> nn.Module:
    """The norm that a configuration asks for.

    Args:
        norm_type (`str`): `"layer"`, `"batch"` or `"none"`.
        num_features (`int`): number of features.
        momentum (`float`): see [`MaskedBatchNorm`].
    """
    if norm_type == "layer":
        return SequenceLayerNorm(num_features, eps=LAYER_NORM_EPS)
    return MaskedBatchNorm(num_features, momentum) if norm_type == "batch" else NoNorm()
