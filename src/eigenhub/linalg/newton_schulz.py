# SPDX-License-Identifier: Apache-2.0
r"""Approximate polar factors by the quintic Newton-Schulz iteration: products only, no decomposition.

Every iteration multiplies $X$ by a polynomial of its Gram matrix $G$, $X \leftarrow X (aI + bG + cG^2)$, which moves all
singular values towards one. The published coefficients trade accuracy for speed: after five iterations the values lie
within about [0.65, 1.25], not at one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


COEFFICIENTS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "fixed": ((3.4445, -4.7750, 2.0315),),
    "per_step": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}
EPS = 1e-7
# From this ratio of sides on, iterating on the small Gram matrix costs less than on the matrix itself.
GRAM_RATIO = 2


def coefficient_schedule(coefficients: str, steps: int) -> Sequence[tuple[float, float, float]]:
    """The triples (a, b, c) of `steps` iterations; the last one of a set repeats.

    Args:
        coefficients (`str`): `"fixed"` (Muon's) or `"per_step"` (tuned for each of five iterations).
        steps (`int`): number of iterations, not negative.
    """
    if coefficients not in COEFFICIENTS:
        raise ValueError(f"`coefficients` must be one of {', '.join(COEFFICIENTS)}, got {coefficients!r}")
    if steps < 0:
        raise ValueError(f"`steps` must not be negative, got {steps}")
    triples = COEFFICIENTS[coefficients]
    return [triples[min(i, len(triples) - 1)] for i in range(steps)]


def newton_schulz(x: Tensor, steps: int = 5, coefficients: str = "fixed", dtype: torch.dtype | None = None) -> Tensor:
    r"""Approximation of the polar factor $U V^\top$ of $x = U \Sigma V^\top$.

    `x` is divided by its Frobenius norm plus 1e-7, so that all singular values start in (0, 1]. It is never written to.
    In float32 and float64 a matrix at least twice as long as wide is iterated through its Gram matrix alone
    ([`newton_schulz_factor`]): the same polynomial at a fraction of the products.

    Args:
        x (`Tensor` of shape `(..., m, n)`): matrices; null directions stay null.
        steps (`int`, *optional*, defaults to 5): iterations; 0 gives the normalised input.
        coefficients (`str`, *optional*, defaults to `"fixed"`): see [`coefficient_schedule`].
        dtype (`torch.dtype`, *optional*): dtype of the iteration; the input's by default, float32 for half inputs.
            `torch.bfloat16` is quicker on accelerators and amplifies its rounding noise in null directions.

    Returns:
        `Tensor` of shape `(..., m, n)`, in the dtype of `x`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg import newton_schulz
    >>> values = torch.linalg.svdvals(newton_schulz(torch.eye(4, 3)))
    >>> bool(((values > 0.65) & (values < 1.25)).all())
    True
    ```
    """
    schedule = coefficient_schedule(coefficients, steps)
    work = x.to(torch.promote_types(x.dtype, torch.float32))
    work = work / (torch.linalg.matrix_norm(work, keepdim=True) + EPS)  # a new tensor: what follows may not touch x
    if dtype is not None:
        work = work.to(dtype)
    wide = work if work.shape[-2] <= work.shape[-1] else work.mT  # short side as rows
    if wide.shape[-1] >= GRAM_RATIO * wide.shape[-2] and wide.dtype in (torch.float32, torch.float64):
        wide = _factor(wide @ wide.mT, schedule) @ wide
    else:
        for a, b, c in schedule:
            gram = wide @ wide.mT
            wide = a * wide + (b * gram + c * (gram @ gram)) @ wide
    result = wide if work.shape[-2] <= work.shape[-1] else wide.mT
    return result.to(x.dtype)


def newton_schulz_factor(gram: Tensor, steps: int = 5, coefficients: str = "fixed") -> Tensor:
    r"""The small matrix $Q$ with $x Q$ = [`newton_schulz`]$(x)$, from the Gram matrix $x^\top x$ alone.

    $G$ follows $X$ by $G \leftarrow P G P$ with the iteration's polynomial $P$, so rows of `x` are needed only for the sum
    that forms `gram`: they may lie on different machines.

    Args:
        gram (`Tensor` of shape `(..., r, r)`): $x^\top x$, in float32 or float64; its trace is the squared norm of `x`.
        steps (`int`, *optional*, defaults to 5): iterations.
        coefficients (`str`, *optional*, defaults to `"fixed"`): see [`coefficient_schedule`].

    Returns:
        `Tensor` of shape `(..., r, r)`.
    """
    scale = gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=0).sqrt()[..., None, None] + EPS
    return _factor(gram / scale / scale, coefficient_schedule(coefficients, steps)) / scale


def _factor(gram: Tensor, schedule: Sequence[tuple[float, float, float]]) -> Tensor:
    """Product of the iterations' polynomials, all of them functions of one symmetric matrix."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor = eye.expand_as(gram)
    for i, (a, b, c) in enumerate(schedule):
        polynomial = a * eye + b * gram + c * (gram @ gram)
        factor = polynomial if i == 0 else polynomial @ factor
        if i + 1 < len(schedule):
            gram = polynomial @ gram @ polynomial
    return factor
