# SPDX-License-Identifier: Apache-2.0
"""The head that makes a new embedding whose first coordinates can be compared with an old model's vectors."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenhub.nn.basis_init import check_pairs, procrustes_bases, start_added_rows
from eigenhub.nn.exact_region import exact_region
from eigenhub.nn.orthogonal_transform import OrthogonalTransform


ADDED = ("normalized", "linear")


class BasisTransformationOutput(NamedTuple):
    """What a [`BasisTransformationHead`] returns.

    Args:
        new (`Tensor` of shape `(..., new_dim)`): unit vectors $f$, comparable with the new teacher.
        compat (`Tensor` of shape `(..., old_dim)`): the first coordinates of `embedding`, comparable with old vectors;
            shorter than one.
        embedding (`Tensor` of shape `(..., new_dim + added_dim)`): unit vectors, what a new index stores.
    """

    new: Tensor
    compat: Tensor
    embedding: Tensor


class FoldedBasis(NamedTuple):
    """The two basis transformations as one orthogonal matrix $T = [T_1, T_2]$, $z = T_1 e + C\\,T_2 f$.

    Args:
        added (`Tensor` of shape `(new_dim + added_dim, added_dim)`): $T_1$, columns for $e$.
        new (`Tensor` of shape `(new_dim + added_dim, new_dim)`): $T_2$, columns for $f$, without the scale.
    """

    added: Tensor
    new: Tensor


class BasisTransformationHead(nn.Module):
    r"""New and old spaces in one vector, by two learned changes of basis (BT2).

    With $n$ = `new_dim`, $m$ = `old_dim`, $k$ = `added_dim`, $C$ = `scale` and the feature $h$ of one input,

    $$f = \mathrm{normalize}(F h),\quad e = \mathrm{normalize}(E h),\quad u = [e,\ C\,P f],\quad
    z = [Q\,u_{:m},\ u_{m:}],\quad \text{embedding} = z / \lVert z \rVert$$

    $P \in O(n)$ and $Q \in O(m)$ change no inner product: $z \cdot z' = e \cdot e' + C^2 f \cdot f'$, so the whole vector ranks
    like the new teacher while its first $m$ coordinates are free to meet the old one.

    Args:
        in_features (`int`): size of $h$.
        new_dim (`int`): $n$; equal to `in_features` where `new_proj` is off.
        old_dim (`int`): $m$, the length of old vectors.
        added_dim (`int`, *optional*, defaults to 32): $k$ with $0 \le k \le m \le n + k$. Below a quarter of $m$ it costs
            quality of the whole vector.
        scale (`float`, *optional*, defaults to 2.0): $C > 0$, the weight of the new teacher's space.
        added (`str`, *optional*, defaults to `"normalized"`): $e$ as above, or `"linear"`: $e = E f$, not normalised and
            without bias, so that the head folds into one matrix.
        new_proj (`bool`, *optional*, defaults to `True`): False takes $f = \mathrm{normalize}(h)$, for frozen encoders.
        rank (`int`, *optional*): low-rank generators for both changes of basis, see [`OrthogonalTransform`].
        map (`str`, *optional*, defaults to `"cayley"`): see [`OrthogonalTransform`].

    Returns:
        `forward`: [`BasisTransformationOutput`], in float32 whatever the dtype of the trunk.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.nn import BasisTransformationHead
    >>> head = BasisTransformationHead(48, new_dim=16, old_dim=12, added_dim=4)
    >>> output = head(torch.randn(2, 48))
    >>> output.compat.shape, output.embedding.shape
    (torch.Size([2, 12]), torch.Size([2, 20]))
    ```

    Zhou et al., BT2: Backward-compatible Training with Basis Transformation, 2211.03989. Departures: unit output (raw
    norms harm mixed galleries), the Cayley map instead of the matrix exponential, $E$ with $k$ rows instead of $m$.
    """

    def __init__(
        self,
        in_features: int,
        new_dim: int,
        old_dim: int,
        added_dim: int = 32,
        scale: float = 2.0,
        added: str = "normalized",
        new_proj: bool = True,
        rank: int | None = None,
        map: str = "cayley",
    ) -> None:
        super().__init__()
        check_dims(new_dim, old_dim, added_dim, scale, added)
        if not new_proj and in_features != new_dim:
            raise ValueError(f"without `new_proj`, `in_features` must be new_dim = {new_dim}, got {in_features}")
        self.in_features, self.new_dim, self.old_dim, self.added_dim = in_features, new_dim, old_dim, added_dim
        self.scale, self.added = float(scale), added
        self.new_projection = nn.Linear(in_features, new_dim) if new_proj else None
        linear = added == "linear"
        self.added_projection = (
            nn.Linear(new_dim if linear else in_features, added_dim, bias=not linear) if added_dim else None
        )
        self.new_basis = OrthogonalTransform(new_dim, rank, map)
        self.compat_basis = OrthogonalTransform(old_dim, rank, map)
        # Then no rotated coordinate of f is compatible and no loss sees P: it would be an unused parameter under DDP.
        self.new_basis.requires_grad_(old_dim > added_dim)

    @property
    def embedding_dim(self) -> int:
        """Length of the output, $n + k$."""
        return self.new_dim + self.added_dim

    def forward(self, features: Tensor) -> BasisTransformationOutput:
        with exact_region(features.device.type):
            new, added = self.project(features)
            embedding = F.normalize(self.transform(new, added), dim=-1)
        return BasisTransformationOutput(new, embedding[..., : self.old_dim], embedding)

    def project(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The unit vectors $f$ and the added part $e$ (of length 0 for `added_dim=0`).

        Args:
            features (`Tensor` of shape `(..., in_features)`): $h$.
        """
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        new = F.normalize(linear_as(self.new_projection, features), dim=-1)
        if self.added_projection is None:
            return new, new[..., :0]
        if self.added == "linear":
            return new, linear_as(self.added_projection, new)
        return new, F.normalize(linear_as(self.added_projection, features), dim=-1)

    def transform(self, new: Tensor, added: Tensor) -> Tensor:
        r"""$z$ before its normalisation; $\lVert z \rVert^2 = \lVert e \rVert^2 + C^2$.

        Args:
            new (`Tensor` of shape `(..., new_dim)`): $f$.
            added (`Tensor` of shape `(..., added_dim)`): $e$.
        """
        shared = torch.cat([added, self.scale * self.new_basis(new)], dim=-1)  # u
        compat = self.compat_basis(shared[..., : self.old_dim])
        return torch.cat([compat, shared[..., self.old_dim :]], dim=-1)

    def fold(self) -> FoldedBasis:
        """Both changes of basis as the columns of one orthogonal matrix, for inference and export."""
        p, q = self.new_basis.matrix(), self.compat_basis.matrix()
        block = torch.block_diag(torch.eye(self.added_dim, dtype=p.dtype, device=p.device), p)
        with exact_region(p.device.type):
            whole = torch.cat([q @ block[: self.old_dim], block[self.old_dim :]])
        return FoldedBasis(whole[:, : self.added_dim], whole[:, self.added_dim :])

    def folded_matrix(self) -> Tensor:
        """The one matrix $M = T_1 E + C\\,T_2$ with `embedding` = normalize($M f$); needs a linear added part or none.

        Returns:
            `Tensor` of shape `(new_dim + added_dim, new_dim)`.
        """
        folded = self.fold()
        if self.added_projection is None:
            return self.scale * folded.new
        if self.added != "linear":
            raise ValueError(f"one matrix needs `added='linear'` or `added_dim=0`, got {self.added!r}")
        return folded.added @ self.added_projection.weight.to(folded.new.dtype) + self.scale * folded.new

    @torch.no_grad()
    def procrustes_init_(self, new: Tensor, old: Tensor) -> "BasisTransformationHead":
        """Starts both changes of basis where the closest rotation of the new teacher into the old space is.

        The added part starts on the shared directions of least weight, so that for `added="linear"` new/old comparisons
        are those of the whole Procrustes map from the first step on. Load a trained new projection before.

        Args:
            new (`Tensor` of shape `(rows, new_dim)`): the new teacher's vectors; normalised here.
            old (`Tensor` of shape `(rows, old_dim)`): the old model's vectors of the same inputs. Below `2 * old_dim`
                rows a warning tells that the rotation is arbitrary in part; about 1,000 rows are needed for a good one.

        Returns:
            `BasisTransformationHead`: itself.
        """
        new, old = check_pairs(new, old, self.new_dim, self.old_dim)
        bases = procrustes_bases(new.mT @ old, self.added_dim)
        self.new_basis.set_base(bases.new)
        self.compat_basis.set_base(bases.compat)
        if self.added_projection is not None:
            if self.added == "linear":  # e = E f then continues C P f
                start_added_rows(self.added_projection, None, self.scale * bases.added)
            else:
                start_added_rows(self.added_projection, self.new_projection, bases.added)
        return self

    def repair_bases_(self) -> bool:
        """[`OrthogonalTransform.repair_base_`] for both; says whether either needed it."""
        repaired = [basis.repair_base_() for basis in (self.new_basis, self.compat_basis)]
        return any(repaired)

    def extra_repr(self) -> str:
        return (
            f"new_dim={self.new_dim}, old_dim={self.old_dim}, added_dim={self.added_dim}, scale={self.scale}, "
            f"added={self.added!r}"
        )


def check_dims(new_dim: int, old_dim: int, added_dim: int, scale: float, added: str = "normalized") -> None:
    """Raises a `ValueError` that names the inequality which the sizes of a [`BasisTransformationHead`] break.

    Args:
        new_dim (`int`): $n$.
        old_dim (`int`): $m$.
        added_dim (`int`): $k$.
        scale (`float`): $C$.
        added (`str`, *optional*, defaults to `"normalized"`): kind of the added part.
    """
    sizes = f"new_dim = {new_dim}, old_dim = {old_dim}, added_dim = {added_dim}"
    if new_dim < 1 or old_dim < 1:
        raise ValueError(f"`new_dim` and `old_dim` must be at least 1, got {sizes}")
    if added_dim < 0:
        raise ValueError(f"`added_dim` must satisfy 0 <= added_dim, got {sizes}")
    if added_dim > old_dim:
        raise ValueError(f"`added_dim` must satisfy added_dim <= old_dim, got {sizes}")
    if old_dim > new_dim + added_dim:
        raise ValueError(f"`added_dim` must satisfy old_dim <= new_dim + added_dim, got {sizes}")
    if not 0 < scale < float("inf"):
        raise ValueError(f"`scale` must satisfy 0 < scale < inf, got {scale}")
    if added not in ADDED:
        raise ValueError(f"`added` must be one of {', '.join(ADDED)}; got {added!r}")


def linear_as(layer: nn.Linear | None, x: Tensor) -> Tensor:
    """The layer in the dtype of `x`, whatever the weights are stored in; without a layer `x` itself.

    Args:
        layer (`nn.Linear`, *optional*): the layer.
        x (`Tensor` of shape `(..., in_features)`): its input.
    """
    if layer is None:
        return x
    return F.linear(x, layer.weight.to(x.dtype), None if layer.bias is None else layer.bias.to(x.dtype))
