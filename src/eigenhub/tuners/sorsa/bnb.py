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

    def get_base_weight(self) -> torch.Tensor:
        """The dequantised base weight.

        On CPUs with AVX512-BF16 bitsandbytes permutes the packed weight at the first inference without gradients. Its
        dequantisation ignores the permutation and its inverse loses the order of the scales, so the weight is then read
        off as the image of the identity, which is what the layer computes with.
        """
        base: Any = self.get_base_layer()
        if self.quantization_backend is None or not getattr(base.weight.quant_state, "packing_format_for_cpu", False):
            return super().get_base_weight()
        with torch.no_grad():
            image = base(torch.eye(base.in_features, dtype=torch.float32)).mT
            return image if base.bias is None else image - base.bias[:, None]
