# SPDX-License-Identifier: Apache-2.0
"""How far a frame is from having orthonormal columns."""

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
