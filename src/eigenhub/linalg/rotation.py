# SPDX-License-Identifier: Apache-2.0
r"""Rotations from skew parameters: the Cayley map, formed, applied to vectors, or with a generator of low rank.

For a skew matrix $A$ the rotation is $R = (I - A/2)^{-1}(I + A/2)$. Every function works in float32 or better.
"""

import torch
from torch import Tensor


def skew_matrix(lower: Tensor, size: int) -> Tensor:
    r"""The skew matrix $L - L^\top$ whose strict lower triangle $L$ is read row by row from a vector.

    Args:
        lower (`Tensor` of shape `(size * (size - 1) / 2,)`): the free parameters of a rotation.
        size (`int`): side of the matrix.

    Returns:
        `Tensor` of shape `(size, size)`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg import skew_matrix
    >>> skew_matrix(torch.tensor([1.0]), 2).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    ```
    """
    expected = size * (size - 1) // 2
    if lower.shape != (expected,):
        raise ValueError(f"`lower` must have shape ({expected},) for size {size}, got {tuple(lower.shape)}")
    mask = torch.ones(size, size, dtype=torch.bool, device=lower.device).tril(-1)
    triangle = torch.zeros(size, size, dtype=lower.dtype, device=lower.device).masked_scatter(mask, lower)
    return triangle - triangle.mT


def cayley(skew: Tensor) -> Tensor:
    r"""The rotation $(I - A/2)^{-1}(I + A/2)$ of a skew matrix $A$, formed.

    It never has the eigenvalue -1; it agrees with $\exp A$ up to third order.

    Args:
        skew (`Tensor` of shape `(..., d, d)`): skew matrices.

    Returns:
        `Tensor` of shape `(..., d, d)`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg import cayley, skew_matrix
    >>> cayley(skew_matrix(torch.tensor([2.0]), 2)).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    ```
    """
    eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    return torch.linalg.solve(eye - skew / 2, eye + skew / 2)


def cayley_apply(skew: Tensor, x: Tensor) -> Tensor:
    r"""$x R^\top$ for the Cayley rotation $R$ of `skew`, without forming it: $R x = 2 (I - A/2)^{-1} x - x$.

    One factorisation of $\tfrac23 d^3$ and two triangular solves per row; forming $R$ costs a right-hand side of $d$
    columns on top, in both directions.

    Args:
        skew (`Tensor` of shape `(d, d)`): a skew matrix.
        x (`Tensor` of shape `(batch, d)`): rows to rotate.

    Returns:
        `Tensor` of shape `(batch, d)`.
    """
    eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    return 2 * torch.linalg.solve(eye - skew / 2, x.mT).mT - x


def low_rank_cayley_apply(left: Tensor, right: Tensor, x: Tensor) -> Tensor:
    r"""[`cayley_apply`] for the skew matrix $A = U V^\top - V U^\top$, at $O(d r)$ per row and $O(d r^2 + r^3)$ once.

    With $L = [U, V]$ and $R = [V, -U]$, $A = L R^\top$ and the rotation is $I + 2 L (2I - R^\top L)^{-1} R^\top$ (Woodbury).

    Args:
        left (`Tensor` of shape `(d, r)`): $U$.
        right (`Tensor` of shape `(d, r)`): $V$.
        x (`Tensor` of shape `(batch, d)`): rows to rotate.

    Returns:
        `Tensor` of shape `(batch, d)`.
    """
    outer = torch.cat([left, right], dim=-1)
    inner = torch.cat([right, -left], dim=-1)
    core = 2 * torch.eye(outer.shape[-1], dtype=x.dtype, device=x.device) - inner.mT @ outer
    return x + 2 * torch.linalg.solve(core, (x @ inner).mT).mT @ outer.mT
