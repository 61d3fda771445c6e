# SPDX-License-Identifier: Apache-2.0
"""A BT2 head whose changes of basis are fixed matrices: for inference, half precision and export."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenhub.nn.basis_head import BasisTransformationHead, BasisTransformationOutput, linear_as


class FoldedHead(nn.Module):
    r"""A [`BasisTransformationHead`] after training: $z = T_1 e + C\,T_2 f$ by two products, nothing to solve; one product
    with $T_1 E + C\,T_2$ if the added part is linear.

    It has no operation that ONNX lacks. Fold in float32 and cast the result; it follows `.to(dtype)`.

    Args:
        head ([`BasisTransformationHead`]): the trained head; its projections are shared, not copied.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.nn import BasisTransformationHead, FoldedHead
    >>> head = BasisTransformationHead(16, new_dim=8, old_dim=6, added_dim=2)
    >>> h = torch.randn(3, 16)
    >>> torch.allclose(FoldedHead(head)(h).embedding, head(h).embedding, atol=1e-6)
    True
    ```
    """

    added_map: Tensor | None
    new_map: Tensor

    def __init__(self, head: BasisTransformationHead) -> None:
        super().__init__()
        self.old_dim = head.old_dim
        self.new_projection = head.new_projection
        one_matrix = head.added_projection is None or head.added == "linear"
        self.added_projection = None if one_matrix else head.added_projection
        with torch.no_grad():
            folded = head.fold()
            new_map = head.folded_matrix() if one_matrix else head.scale * folded.new
        self.register_buffer("added_map", None if one_matrix else folded.added.contiguous())
        self.register_buffer("new_map", new_map.contiguous())

    def forward(self, features: Tensor) -> BasisTransformationOutput:
        features = features.to(self.new_map.dtype)
        new = F.normalize(linear_as(self.new_projection, features), dim=-1)
        embedding = new @ self.new_map.mT
        if self.added_projection is not None and self.added_map is not None:
            added = F.normalize(linear_as(self.added_projection, features), dim=-1)
            embedding = embedding + added @ self.added_map.mT
        embedding = F.normalize(embedding, dim=-1)
        return BasisTransformationOutput(new, embedding[..., : self.old_dim], embedding)
