# SPDX-License-Identifier: Apache-2.0
r"""Products of Householder reflections by matrix products, and an orthonormal frame as such a product.

$H(v) = I - 2 v v^\top / \lVert v \rVert^2$, and for $Y = [v_1, \dots, v_k]$ the product is $Q(Y) = H(v_1) H(v_2) \cdots H(v_k)$, in
that order. It depends on the directions of the columns alone, not on their lengths.
"""

from typing import NamedTuple

import torch
from torch import Tensor


SIDES = ("cols", "rows")

# Reflections merged into one triangular factor: the Gram matrices cost O(d k BLOCK), and the number of steps is k / BLOCK.
BLOCK = 64


class FrameFactors(NamedTuple):
    r"""An orthonormal frame as reflections: $F = Q(Y) E_r \operatorname{diag}(s)$ with $Y = E_r + \operatorname{tril}(A, -1)$.

    Args:
        lower (`Tensor` of shape `(..., d, r)`): $A$, strictly lower triangular.
        signs (`Tensor` of shape `(..., r)`): $s$, each 1 or -1.
    """

    lower: Tensor
    signs: Tensor


def householder_product(vectors: Tensor, r: int | None = None, side: str = "cols") -> Tensor:
    r"""The first `r` columns or rows of the product of reflections $Q(Y) = H(v_1) \cdots H(v_k)$.

    By the UT transform (Joffrain et al., 2006), exact for columns of any length:

    $$Q = I - Y T Y^\top, \qquad T^{-1} = \operatorname{striu}(Y^\top Y) + \tfrac12 \operatorname{diag}(Y^\top Y).$$

    Longer products go block by block, so that $r$ columns cost $O(d k (r + 64))$. Only matrix products and triangular solves of
    any order of derivative; a column of zeros is no reflection at all and gets no gradient.

    Args:
        vectors (`Tensor` of shape `(..., d, k)`): $Y$; `k` may be zero, or larger than `d`. Half precision is computed in
            float32.
        r (`int`, *optional*): number of columns or rows, between 1 and `d`; all by default.
        side (`str`, *optional*, defaults to `"cols"`): `"cols"` for $Q E_r$, `"rows"` for $E_r^\top Q$.

    Returns:
        `Tensor` of shape `(..., d, r)` or `(..., r, d)`, float32 or float64.

    Raises:
        ValueError: unknown side, `r` out of range, or fewer than two dimensions.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.householder import householder_product
    >>> householder_product(torch.tensor([[3.0], [0.0]])).tolist()
    [[-1.0, 0.0], [0.0, 1.0]]
    ```
    """
    r = _checked_size(vectors, r, side)
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    frame = torch.eye(vectors.shape[-2], r, dtype=vectors.dtype, device=vectors.device)
    blocks = _blocks(vectors)
    rows = side == "rows"  # these are the first columns of Q transposed
    for index, block in enumerate(blocks if rows else reversed(blocks)):
        frame = _reflect(_unit_scale(block), frame, r if index == 0 else None, transposed=rows)
    frame = frame.expand(*vectors.shape[:-1], r)
    return frame.mT if rows else frame


def householder_frame(lower: Tensor, signs: Tensor | None = None) -> Tensor:
    r"""The orthonormal frame $Q(Y) E_r \operatorname{diag}(s)$ of the thin parameters $A$, $Y = E_r + \operatorname{tril}(A, -1)$.

    As many reflections as columns suffice for every frame (a chart of the Stiefel manifold, whose dimension
    $d r - r(r + 1)/2$ is the number of parameters), and none can vanish: $\lVert v_i \rVert \ge 1$.

    Args:
        lower (`Tensor` of shape `(..., d, r)`): $A$ with `r <= d`; entries on and above the diagonal are not read.
        signs (`Tensor` of shape `(..., r)`, *optional*): $s$; all 1 by default.

    Returns:
        `Tensor` of shape `(..., d, r)`, float32 or float64.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.householder import householder_frame
    >>> householder_frame(torch.zeros(3, 1)).tolist()
    [[-1.0], [0.0], [0.0]]
    ```
    """
    _check_thin(lower, "lower")
    d, r = lower.shape[-2:]
    lower = lower.to(torch.promote_types(lower.dtype, torch.float32))
    frame = torch.eye(d, r, dtype=lower.dtype, device=lower.device)
    vectors = lower.tril(-1) + frame
    for index, block in enumerate(reversed(_blocks(vectors))):
        frame = _reflect(block, frame, r if index == 0 else None)
    return frame if signs is None else frame * signs[..., None, :].to(frame.dtype)


@torch.no_grad()
def factor_frame(frame: Tensor) -> FrameFactors:
    r"""The reflections and signs of an orthonormal frame, the inverse of [`householder_frame`].

    The vectors are those of a QR decomposition. The signs are read off the decoded frame: LAPACK leaves $H = I$ where a column
    is reduced already, where the decoder reflects.

    Args:
        frame (`Tensor` of shape `(..., d, r)`): orthonormal columns, `r <= d`. Half precision is computed in float32.

    Returns:
        [`FrameFactors`]; decoding them gives `frame` back up to rounding.

    Raises:
        ValueError: more columns than rows, or columns that are not orthonormal.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.householder import factor_frame, householder_frame
    >>> frame = torch.eye(4, 2).flip(0)
    >>> torch.equal(householder_frame(*factor_frame(frame)), frame)
    True
    ```
    """
    _check_thin(frame, "frame")
    frame = frame.to(torch.promote_types(frame.dtype, torch.float32))
    defect = (frame.mT @ frame - torch.eye(frame.shape[-1], dtype=frame.dtype, device=frame.device)).abs()
    if not bool((defect < 1e-2).all()):  # NaN included
        worst = defect.max().item()
        raise ValueError(
            f"`frame` must have orthonormal columns, but their Gram matrix is {worst:.1e} off the identity"
        )
    lower = torch.geqrf(frame)[0].tril(-1)
    signs = torch.where((householder_frame(lower) * frame).sum(-2) < 0, -1.0, 1.0)
    return FrameFactors(lower, signs.to(frame.dtype))


def householder_product_reference(vectors: Tensor, r: int | None = None, side: str = "cols") -> Tensor:
    """[`householder_product`] by its definition, one reflection after the other, in float64.

    Args:
        vectors (`Tensor` of shape `(..., d, k)`): the reflections.
        r (`int`, *optional*): number of columns or rows; all by default.
        side (`str`, *optional*, defaults to `"cols"`): `"cols"` or `"rows"`.
    """
    r = _checked_size(vectors, r, side)
    vectors = vectors.double()
    order = vectors.unbind(-1)
    frame = torch.eye(vectors.shape[-2], r, dtype=vectors.dtype, device=vectors.device).expand(*vectors.shape[:-1], r)
    for vector in order if side == "rows" else reversed(order):
        unit = vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
        frame = frame - 2 * unit[..., :, None] * (unit[..., None, :] @ frame)
    return frame.mT if side == "rows" else frame


def _checked_size(vectors: Tensor, r: int | None, side: str) -> int:
    if side not in SIDES:
        raise ValueError(f"`side` must be one of {', '.join(SIDES)}; got {side!r}")
    if vectors.ndim < 2:
        raise ValueError(f"`vectors` must have shape (..., d, k), got {tuple(vectors.shape)}")
    d = vectors.shape[-2]
    r = d if r is None else r
    if not 1 <= r <= d:
        raise ValueError(f"`r` must be between 1 and d = {d}, got {r}")
    return r


def _check_thin(matrix: Tensor, name: str) -> None:
    if matrix.ndim < 2 or not 1 <= matrix.shape[-1] <= matrix.shape[-2]:
        raise ValueError(f"`{name}` must have shape (..., d, r) with 1 <= r <= d, got {tuple(matrix.shape)}")


def _blocks(vectors: Tensor) -> tuple[Tensor, ...]:
    """Groups of columns. One alone stays as it is: to split is to copy in the backward pass."""
    k = vectors.shape[-1]
    if k > BLOCK:
        return vectors.split(BLOCK, dim=-1)
    return (vectors,) if k else ()


def _unit_scale(block: Tensor) -> Tensor:
    """Columns whose largest entry is one, so that no Gram matrix overflows; columns of zeros stay.

    The product does not depend on the lengths, so the scale counts as a constant in derivatives of every order.
    """
    scale = block.detach().abs().amax(-2, keepdim=True)
    return block / scale.clamp(min=torch.finfo(block.dtype).tiny)


def _reflect(block: Tensor, frame: Tensor, top: int | None = None, transposed: bool = False) -> Tensor:
    """`Q(block) @ frame` or its transpose applied; `top` says that `frame` is the first `top` columns of the identity."""
    gram = block.mT @ block
    size = gram.shape[-1]
    half = torch.ones(size, size, dtype=gram.dtype, device=gram.device).fill_diagonal_(0.5)
    # far below rounding, and what is solved for is zero where a column is
    solvable = torch.zeros(size, size, dtype=gram.dtype, device=gram.device).fill_diagonal_(1e-30)
    inverse = torch.addcmul(solvable, gram, half)  # the solver reads one triangle of it
    seen = block.mT @ frame if top is None else block[..., :top, :].mT
    factor = inverse.mT if transposed else inverse
    return frame - block @ torch.linalg.solve_triangular(factor, seen, upper=not transposed)
