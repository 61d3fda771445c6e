# SPDX-License-Identifier: Apache-2.0
"""Orthonormal frames: how far from one a matrix is, the closest one, a random one, the one between two clouds."""

import torch
from torch import Tensor


def gram_defect(x: Tensor) -> Tensor:
    r"""$X^\top X - I$, the residual of column orthonormality.

    Args:
        x (`Tensor` of shape `(..., m, r)`): the frame; `r <= m` for the defect to be able to vanish. Half precision is
            computed in float32, where the defect of a rounded frame is not drowned by the rounding of the product.

    Returns:
        `Tensor` of shape `(..., r, r)`, symmetric.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    gram = x.mT @ x
    if hasattr(gram, "full_tensor"):  # sharded frame: the (r, r) Gram matrix is small, gather it
        gram = gram.full_tensor()
    return gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def smooth_norm(defect: Tensor, eps: float = 0.0) -> Tensor:
    r"""$\sqrt{\lVert D \rVert_F^2 + \epsilon^2} - \epsilon$ over the last two dimensions.

    The plain norm (`eps=0`) has a gradient of size one however small `defect` is, so that near orthonormality it
    normalises rounding noise; with `eps > 0` the gradient fades as `norm / eps`.

    Args:
        defect (`Tensor` of shape `(..., r, r)`): residual matrices.
        eps (`float`, *optional*, defaults to 0.0): smoothing, not negative.

    Returns:
        `Tensor` of shape `(...)`.
    """
    if eps == 0.0:
        return torch.linalg.matrix_norm(defect)
    return (defect.square().sum((-2, -1)) + eps * eps).sqrt() - eps


def orthonormality_defect(x: Tensor, eps: float = 0.0) -> Tensor:
    r"""$\lVert X^\top X - I \rVert_F$, the distance of the columns of `x` from orthonormality.

    Computed from the residual itself: the expansion $\lVert G \rVert^2 - 2\,\mathrm{tr}\,G + r$ cancels to zero long
    before the columns are orthonormal.

    Args:
        x (`Tensor` of shape `(..., m, r)`): the frame. Pass `v.mT` for orthonormal rows.
        eps (`float`, *optional*, defaults to 0.0): see [`smooth_norm`].

    Returns:
        `Tensor` of shape `(...)`, differentiable (the subgradient at exact orthonormality is zero).

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg import orthonormality_defect
    >>> orthonormality_defect(torch.eye(4, 2)).item()
    0.0
    ```
    """
    return smooth_norm(gram_defect(x), eps)


def orthonormalize(x: Tensor) -> Tensor:
    r"""Orthonormal columns with the span of `x`, by QR; of an almost orthonormal frame hardly a digit moves.

    The signs are fixed by a positive diagonal of $R$, so that the result is a continuous function of `x`, and Haar
    distributed for Gaussian entries (Mezzadri, 2007).

    Args:
        x (`Tensor` of shape `(..., m, r)`): a frame of full column rank. Half precision is computed in float32.

    Returns:
        `Tensor` of shape `(..., m, r)`, float32 or float64.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg import orthonormalize
    >>> orthonormalize(torch.tensor([[2.0, 1.0], [0.0, -3.0]])).tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    ```
    """
    q, r = torch.linalg.qr(x.to(torch.promote_types(x.dtype, torch.float32)))
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q.dtype)
    return q * signs[..., None, :]


def random_orthogonal(size: int, generator: torch.Generator | None = None) -> Tensor:
    """A uniformly random orthogonal matrix (Haar), in float32.

    Args:
        size (`int`): its side, at least 1.
        generator (`torch.Generator`, *optional*): source of the entries; the global one is not touched if given.

    Returns:
        `Tensor` of shape `(size, size)`.
    """
    device = generator.device if generator is not None else None
    return orthonormalize(torch.randn(size, size, generator=generator, device=device, dtype=torch.float32))


def procrustes(x: Tensor, y: Tensor) -> Tensor:
    r"""The orthogonal matrix that maps the rows of `x` closest to those of `y` (Schönemann, 1966).

    With the singular value decomposition $x^\top y = U S V^\top$ it is $W = U V^\top$, the minimiser of
    $\lVert x W - y \rVert_F$ and, for vectors of equal length, the maximiser of the sum of their inner products. Nothing is
    centred: the origin carries meaning for inner products.

    Args:
        x (`Tensor` of shape `(rows, n)`): source vectors; float32 sums are taken in float64.
        y (`Tensor` of shape `(rows, m)`): target vectors.

    Returns:
        `Tensor` of shape `(n, m)`, in the dtype of `x`: orthonormal columns where `m <= n`, rows otherwise.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg import procrustes
    >>> x = torch.eye(2)
    >>> procrustes(x, x.flip(1)).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    ```
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"`x` and `y` must be paired rows, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    u, _, vh = torch.linalg.svd(x.double().mT @ y.double(), full_matrices=False)
    return (u @ vh).to(x.dtype)
