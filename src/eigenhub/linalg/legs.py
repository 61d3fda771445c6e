# SPDX-License-Identifier: Apache-2.0
r"""The HiPPO-LegS system, its normal part, and the scalar function that ties the two together.

$A = S - P P^\top$ remembers the past of a signal as Legendre coefficients. Its eigenvectors are useless in floating point
(their condition number is 8e10 at n = 16), while $S$ is normal: it is what S4D and S5 start from.
"""

import math

import torch
from torch import Tensor


def hippo_legs(n: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""The HiPPO-LegS matrices $x' = A x + B u$ and the vector $P$ that makes $A + P P^\top$ normal.

    With indices from 0: $A_{ij} = -\sqrt{2i+1}\sqrt{2j+1}$ below the diagonal, $A_{ii} = -(i+1)$, 0 above;
    $B_i = \sqrt{2i+1}$ and $P_i = \sqrt{i + 1/2}$.

    Args:
        n (`int`): order, at least 1.

    Returns:
        `A (n, n)`, `B (n,)` and `P (n,)`, float64 on the CPU.

    Example:

    ```python
    >>> from eigenhub.linalg.hippo import hippo_legs
    >>> a, b, p = hippo_legs(2)
    >>> a.diagonal().tolist()
    [-1.0, -2.0]
    ```

    Reference: Gu et al., "HiPPO: Recurrent Memory with Optimal Polynomial Projections" (arXiv 2008.07669).
    """
    check_order(n)
    odd = 2 * torch.arange(n, dtype=torch.float64, device="cpu") + 1
    p = (odd / 2).sqrt()
    a = -2 * torch.outer(p, p).tril(-1) - torch.diag((odd + 1) / 2)
    return a, odd.sqrt(), p


def check_order(n: int) -> None:
    """Raise `ValueError` unless `n` is an integer of at least 1.

    Args:
        n (`int`): order of a system.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"`n` must be an integer of at least 1, got {n!r}")


def legs_normal_part(n: int) -> Tensor:
    r"""The normal part $S = A + P P^\top$ of [`hippo_legs`], exactly $-I/2$ plus a skew matrix.

    Args:
        n (`int`): order, at least 1.

    Returns:
        `Tensor` of shape `(n, n)`, float64.
    """
    _, _, p = hippo_legs(n)
    lower = torch.outer(p, p).tril(-1)
    return lower.mT - lower - torch.eye(n, dtype=torch.float64, device="cpu") / 2


def legs_frequencies(n: int) -> Tensor:
    r"""The positive imaginary parts $w_0 > w_1 > \dots$ of the eigenvalues $-1/2 \pm i w_m$ of the normal part.

    They are the roots of $\sum_j \arctan\frac{j + 1/2}{w_m} = \pi (m + 1/2)$, which is $1 + \phi_n = 0$ (see [`phi`])
    written with real numbers: a monotone function, so that Newton's steps from LAPACK's eigenvalues reach the rounding of
    $w_m$ itself instead of that of the largest one.

    Args:
        n (`int`): order, at least 1.

    Returns:
        `Tensor` of shape `(n // 2,)`, float64, descending.
    """
    normal = legs_normal_part(n)
    skew = normal - torch.diag(normal.diagonal())
    w = torch.linalg.eigvalsh(-1j * skew)[n - n // 2 :].flip(0)[:, None]
    halves = torch.arange(n, dtype=torch.float64, device="cpu") + 0.5
    target = math.pi * halves[: n // 2, None]
    for _ in range(2):
        excess = torch.atan(halves / w).sum(-1, keepdim=True) - target
        w = w + excess / (halves / (w.square() + halves.square())).sum(-1, keepdim=True)
    return w[:, 0]


def legs_state_response(n: int, s: Tensor) -> Tensor:
    r"""$(sI - A)^{-1} B$ in closed form, $\frac{\sqrt{2k+1}}{s+k+1} \prod_{j<k} \frac{s-j}{s+j+1}$ for state k.

    Args:
        n (`int`): order, at least 1.
        s (`Tensor` of shape `(...)`): points of the complex plane.

    Returns:
        `Tensor` of shape `(..., n)`, complex128.
    """
    check_order(n)
    s = s.to(device="cpu", dtype=torch.complex128)[..., None]
    k = torch.arange(n, dtype=torch.float64, device="cpu")
    factors = torch.cat([torch.ones_like(s), ((s - k) / (s + k + 1))[..., :-1]], dim=-1)
    return (2 * k + 1).sqrt() / (s + k + 1) * factors.cumprod(-1)


def legs_normal_diagonalize(n: int) -> tuple[Tensor, Tensor]:
    r"""Eigenvalues and unitary eigenvectors of the normal part, $S = V \,\mathrm{diag}(\lambda)\, V^H$.

    The eigenvectors are proportional to $(\lambda I - A)^{-1} P$, known in closed form. This also fixes their phases:
    $V^H B$ is real and positive, whatever LAPACK the machine has.

    Args:
        n (`int`): order, at least 1.

    Returns:
        `lambda (n,)` by ascending imaginary part, exactly closed under conjugation (index `n - 1 - k` is the conjugate of
        `k`), and `V (n, n)` with the eigenvectors as columns; complex128.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.hippo import legs_normal_diagonalize, legs_normal_part
    >>> values, v = legs_normal_diagonalize(8)
    >>> bool(torch.dist(v @ torch.diag(values) @ v.mH, legs_normal_part(8)) < 1e-12)
    True
    ```
    """
    check_order(n)
    w = legs_frequencies(n)
    middle = torch.zeros(n % 2, dtype=torch.float64, device="cpu")
    w = torch.cat([-w, middle, w.flip(0)])
    values = torch.complex(torch.full_like(w, -0.5), w)
    v = legs_state_response(n, values).mT
    return values, v / torch.linalg.vector_norm(v, dim=0)


def phi(n: int, s: Tensor) -> Tensor:
    r"""$\phi_n(s) = \prod_{j=0}^{n-1} \frac{s - j}{s + j + 1}$, the ratio that separates HiPPO from its normal part.

    For every output matrix C, $C(sI - A)^{-1}B = (1 + \phi_n(s))\, C(sI - S)^{-1} B/2$; the eigenvalues of $S$ are the
    roots of $1 + \phi_n$, and $|\phi_n(iw)| = |w|/\sqrt{w^2 + n^2}$ on the imaginary axis.

    Args:
        n (`int`): order, at least 1.
        s (`Tensor` of shape `(...)`): points of the complex plane.

    Returns:
        `Tensor` of shape `(...)`, complex128.
    """
    check_order(n)
    s = s.to(device="cpu", dtype=torch.complex128)[..., None]
    j = torch.arange(n, dtype=torch.float64, device="cpu")
    return ((s - j) / (s + j + 1)).prod(-1)
