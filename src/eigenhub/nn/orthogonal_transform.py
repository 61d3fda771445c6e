# SPDX-License-Identifier: Apache-2.0
"""A learned rotation about a fixed orthogonal matrix, applied to vectors without forming the rotation."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eigenhub.linalg.orthogonal import orthonormalize, random_orthogonal
from eigenhub.linalg.rotation import cayley, cayley_apply, low_rank_cayley_apply, skew_matrix
from eigenhub.nn.exact_region import exact_region


MAPS = ("cayley", "expm")
#: A base that is further from orthogonal than this, in its largest Gram entry, was rounded to half precision.
BASE_TOLERANCE = 1e-5
#: Frobenius norm of the generator over sqrt(d) beyond which the Cayley map flattens and steps shrink.
REBASE_ABOVE = 5.0


class OrthogonalTransform(nn.Module):
    r"""$y = x T^\top$ with $T = B\,R(A)$: a fixed orthogonal base $B$ and a learned rotation $R$ of a skew generator $A$.

    $A = L - L^\top$ is stored as the strict lower triangle, $d(d-1)/2$ numbers that start at zero, so $T = B$ at the
    start. With the Cayley map, $R = (I - A/2)^{-1}(I + A/2)$ acts on the rows of `x` by one solve,
    $R x = 2 (I - A/2)^{-1} x - x$; the matrix is formed only for batches longer than $d$. With `rank`,
    $A = U V^\top - V U^\top$ moves $2r$ directions and costs $O(d r)$ per row.

    Everything is computed in float32 or better with autocast and TF32 off, and `.to(torch.bfloat16)` leaves this module
    in float32: a rounded base is not orthogonal.

    Args:
        d (`int`): dimension, at least 1.
        rank (`int`, *optional*): columns of $U$ and $V$, at most `d // 2`; by default the generator is dense.
        map (`str`, *optional*, defaults to `"cayley"`): `"cayley"`, or `"expm"` for $R = \exp A$ (dense only, slow).

    Returns:
        `forward`: `Tensor` of the shape and dtype of its input, whose last dimension is `d`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.nn import OrthogonalTransform
    >>> transform = OrthogonalTransform(8)
    >>> x = torch.randn(4, 8)
    >>> torch.allclose(transform(x).norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    True
    ```

    The Cayley map with a base ("trivialisation") follows Lezcano-Casado, 1909.09501; weight decay pulls $T$ to the base.
    """

    base: Tensor

    def __init__(self, d: int, rank: int | None = None, map: str = "cayley") -> None:
        super().__init__()
        check_transform(d, rank, map)
        self.d, self.rank, self.map = d, rank, map
        # explicit dtypes: `from_pretrained` builds under a half-precision default
        self.register_buffer("base", torch.empty(d, d, dtype=torch.float32))
        if rank is None:
            self.skew = nn.Parameter(torch.empty(d * (d - 1) // 2, dtype=torch.float32))
        else:
            self.left = nn.Parameter(torch.empty(d, rank, dtype=torch.float32))
            self.right = nn.Parameter(torch.empty(d, rank, dtype=torch.float32))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws a uniformly random base and makes the rotation the identity.

        Args:
            generator (`torch.Generator`, *optional*): source of the base.
        """
        self.base.copy_(random_orthogonal(self.d, generator))
        if self.rank is not None:  # one factor must not be zero, or neither would get a gradient
            left = torch.randn(self.d, self.rank, generator=generator, dtype=torch.float32)
            self.left.copy_(left / self.d**0.5)
        self.zero_rotation_()

    @torch.no_grad()
    def zero_rotation_(self) -> None:
        """Makes the rotation the identity, so that the transform is its base."""
        (self.skew if self.rank is None else self.right).zero_()

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.d:
            raise ValueError(f"the last dimension of `x` must be {self.d}, got shape {tuple(x.shape)}")
        dtype = torch.promote_types(x.dtype, self.base.dtype)
        with exact_region(x.device.type):
            rows = x.reshape(-1, self.d).to(dtype)
            if self._applies(len(rows)):
                rows = self._rotate(rows) @ self.base.to(dtype).mT
            else:
                rows = rows @ self._matrix(dtype).mT
        return rows.reshape(x.shape).to(x.dtype)

    def matrix(self) -> Tensor:
        """$T$, `(d, d)`, differentiable."""
        with exact_region(self.base.device.type):
            return self._matrix(self.base.dtype)

    @torch.no_grad()
    def set_base(self, base: Tensor) -> None:
        """Makes the transform equal to a given orthogonal matrix, with a rotation of zero.

        Args:
            base (`Tensor` of shape `(d, d)`): orthogonal up to rounding; the rounding is removed.
        """
        if base.shape != (self.d, self.d):
            raise ValueError(f"`base` must have shape ({self.d}, {self.d}), got {tuple(base.shape)}")
        defect = _defect(base.double())
        if not defect < 1e-2:
            raise ValueError(f"`base` must be orthogonal, but its Gram matrix is {defect:.1e} away from the identity")
        self.base.copy_(orthonormalize(base.double()))
        self.zero_rotation_()

    @torch.no_grad()
    def rebase_(self, optimizer: Optimizer | None = None) -> None:
        """Folds the rotation into the base; the transform stays as it is, its parameters become zero.

        Args:
            optimizer (`Optimizer`, *optional*): its state of the parameters, which belongs to the old base, is dropped.
        """
        with exact_region(self.base.device.type):
            self.base.copy_(orthonormalize(self._matrix(torch.float64)))
        self.zero_rotation_()
        for parameter in self.parameters() if optimizer is not None else ():
            optimizer.state.pop(parameter, None)  # type: ignore[union-attr]  # only reached with one

    @torch.no_grad()
    def skew_norm(self) -> Tensor:
        r"""$\lVert A \rVert_F / \sqrt d$, the size of the generator; see `REBASE_ABOVE`."""
        if self.rank is None:
            return (2 * self.skew.square().sum() / self.d).sqrt()
        cross = self.left.mT @ self.right
        squares = ((self.left.mT @ self.left) * (self.right.mT @ self.right)).sum() - (cross * cross.mT).sum()
        return (2 * squares.clamp(min=0) / self.d).sqrt()

    @torch.no_grad()
    def repair_base_(self) -> bool:
        """Makes a base orthogonal again that went through half precision, with a warning; says whether it did."""
        if self.base.is_meta or (self.base.dtype.itemsize >= 4 and _defect(self.base) <= BASE_TOLERANCE):
            return False
        warnings.warn(
            f"the base of an OrthogonalTransform({self.d}) was saved in half precision or not orthogonal: it is "
            "orthonormalised again, which moves it by its rounding",
            stacklevel=2,
        )
        self.base = orthonormalize(self.base.double()).float()
        return True

    def extra_repr(self) -> str:
        return f"{self.d}, rank={self.rank}, map={self.map!r}"

    def _applies(self, num_rows: int) -> bool:
        """Whether a solve with the rows costs less than forming the matrix."""
        return self.rank is not None or (self.map == "cayley" and num_rows <= self.d)

    def _rotate(self, rows: Tensor) -> Tensor:
        """Rows of $x R^\top$ by the Cayley map."""
        if self.rank is not None:
            return low_rank_cayley_apply(self.left.to(rows.dtype), self.right.to(rows.dtype), rows)
        return cayley_apply(skew_matrix(self.skew.to(rows.dtype), self.d), rows)

    def _matrix(self, dtype: torch.dtype) -> Tensor:
        base = self.base.to(dtype)
        if self.rank is not None:
            return base @ self._rotate(torch.eye(self.d, dtype=dtype, device=base.device)).mT
        skew = skew_matrix(self.skew.to(dtype), self.d)
        return base @ (cayley(skew) if self.map == "cayley" else torch.matrix_exp(skew))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "OrthogonalTransform":
        """Moves follow `fn`, casts below float32 do not."""

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype.itemsize >= 4 else tensor.to(moved.device)

        return super()._apply(keep, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.repair_base_()


def check_transform(d: int, rank: int | None, map: str) -> None:
    """Raises `ValueError` for what [`OrthogonalTransform`] cannot be.

    Args:
        d (`int`): dimension.
        rank (`int`, *optional*): columns of a low-rank generator.
        map (`str`): name of the map.
    """
    if d < 1:
        raise ValueError(f"`d` must be at least 1, got {d}")
    if map not in MAPS:
        raise ValueError(f"`map` must be one of {', '.join(MAPS)}; got {map!r}")
    if rank is not None and not 1 <= rank <= d // 2:
        raise ValueError(f"`rank` must be between 1 and d // 2 = {d // 2}, got {rank}")
    if rank is not None and map != "cayley":
        raise ValueError(f"`rank` needs `map='cayley'`, got {map!r}")


def _defect(matrix: Tensor) -> float:
    """Largest entry of the Gram matrix minus the identity."""
    gram = matrix.mT @ matrix
    return (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max().item()
