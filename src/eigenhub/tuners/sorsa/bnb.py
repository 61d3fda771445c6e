# SPDX-License-Identifier: Apache-2.0
"""SORSA on bitsandbytes layers. The base weight is dequantised for the SVD only; training never touches it."""

from typing import Any

import torch
from torch import nn

from eigenhub.tuners.sorsa.layer import SorsaLinear


class SorsaQuantizedLinear(SorsaLinear):
    """What the 8-bit and the 4-bit layer share."""

    @torch.no_grad()
    def dequantize_base_(self, dtype: torch.dtype) -> None:
        """Replace the quantised base layer by a dense `nn.Linear`, so that a merge is not rounded away again.

        Args:
            dtype (`torch.dtype`): dtype of the dense weight.
        """
        base: Any = self.get_base_layer()
        weight = self.get_base_weight()
        dense = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        dense.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        if base.bias is not None:
            dense.bias = nn.Parameter(base.bias.detach().to(dtype), requires_grad=False)
        self.base_layer, self.quantization_backend = dense.train(base.training), None


class SorsaLinear8bitLt(SorsaQuantizedLinear):
    """SORSA on `bitsandbytes.nn.Linear8bitLt`. Merging rounds to 8 bits again."""


class SorsaLinear4bit(SorsaQuantizedLinear):
    """SORSA on `bitsandbytes.nn.Linear4bit`.

    Rounding to 4 bits again loses most of a typical update, so merge with `merge_and_unload(dequantize=True)`.
    """
