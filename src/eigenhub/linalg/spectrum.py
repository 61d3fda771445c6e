# SPDX-License-Identifier: Apache-2.0
"""Functions of the spectrum of a Gram matrix: exactly on its smaller side, or from products alone.

Exact forms are here. [`stochastic_lanczos_quadrature`] and the Chebyshev forms, for matrices too large to factor, are
in files of their own and re-exported.
"""

import math

import torch
from torch import Tensor

from eigenhub.linalg.spectrum_chebyshev import (
    chebyshev_interpolation,
    chebyshev_log_zero,
    chebyshev_moments,
    chebyshev_moments_of,
    degree_for_log,
    half_range_log_coefficients,
)
from eigenhub.linalg.spectrum_lanczos import (
    Operator,
    gram_operator,
    lanczos,
    lanczos_steps,
    largest_eigenvalue,
    rademacher,
)
from eigenhub.linalg.spectrum_quadrature import (
    TraceEstimate,
    quadrature_nodes,
    radau_extension,
    stochastic_lanczos_quadrature,
)


__all__ = [
    "Operator",
    "TraceEstimate",
    "chebyshev_interpolation",
    "chebyshev_log_zero",
    "chebyshev_moments",
    "chebyshev_moments_of",
    "degree_for_log",
    "effective_rank",
    "gram_eigenvalues",
    "gram_log_determinant",
    "gram_operator",
    "half_range_log_coefficients",
    "lanczos",
    "lanczos_steps",
    "largest_eigenvalue",
    "quadrature_nodes",
    "radau_extension",
    "rademacher",
    "stochastic_lanczos_quadrature",
]

EFFECTIVE_RANKS = ("entropy", "participation", "stable")

# Rounding of a Gram matrix moves its small eigenvalues by about eps * trace. Where that is more than this share of
# alpha, the matrix is not formed.
GRAM_TOLERANCE = 1e-7


def gram_eigenvalues(rows: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    r"""Eigenvalues of $XX^\top/c$, descending, as squared singular values: never negative, small ones keep their digits.

    Args:
        rows (`Tensor` of shape `(..., n, d)`): X; computed in float64.
        scale (`float` or `Tensor` of shape `(...)`, *optional*, defaults to 1.0): c.

    Returns:
        `Tensor` of shape `(..., n)`, float64; from place d on they are zero.
    """
    x = rows.double()
    values = torch.linalg.svdvals(_reduced(x)).square()  # [..., min(n, d)]
    values = torch.nn.functional.pad(values, (0, max(0, x.shape[-2] - x.shape[-1])))
    return values / torch.as_tensor(scale, dtype=x.dtype, device=x.device)[..., None]


def gram_log_determinant(rows: Tensor, alpha: float, scale: float | Tensor = 1.0) -> Tensor:
    r"""$\ln\det(\alpha I_n + XX^\top/c)$, factored on the smaller side.

    Sylvester: $\ln\det(\alpha I_n + XX^\top/c) = (n - d)\ln\alpha + \ln\det(\alpha I_d + X^\top X/c)$. A Cholesky
    decomposition in float64; where the rounding of the Gram matrix would be felt beside alpha (one huge common direction,
    as the massive activations of language models), singular values of a QR factor instead.

    Args:
        rows (`Tensor` of shape `(..., n, d)`): X; computed in float64.
        alpha (`float`): positive.
        scale (`float` or `Tensor` of shape `(...)`, *optional*, defaults to 1.0): c, positive.

    Returns:
        `Tensor` of shape `(...)`, float64.

    Raises:
        ValueError: `alpha` not positive, `rows` with less than two dimensions.
    """
    if not alpha > 0:
        raise ValueError(f"`alpha` must be positive, got {alpha}")
    if rows.ndim < 2:
        raise ValueError(f"`rows` must have shape (..., n, d), got {tuple(rows.shape)}")
    x = rows.double()
    n, d = x.shape[-2:]
    outer = max(0, n - d) * math.log(alpha)
    gram = x.mT @ x if n > d else x @ x.mT
    gram /= scale.to(x)[..., None, None] if isinstance(scale, Tensor) else scale
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    if (diagonal.sum(-1) > GRAM_TOLERANCE * alpha / torch.finfo(torch.float64).eps).any():
        values = torch.linalg.svdvals(_reduced(x)).square()
        values = values / (scale.to(x)[..., None] if isinstance(scale, Tensor) else scale)
        return (values + alpha).log().sum(-1) + outer
    diagonal.add_(alpha)  # a view: the Gram matrix itself
    factor = torch.linalg.cholesky_ex(gram).L
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + outer


def _reduced(x: Tensor) -> Tensor:
    """A square factor with the singular values of x; itself where it is not much longer than wide."""
    n, d = x.shape[-2:]
    if max(n, d) < 2 * min(n, d):
        return x
    return torch.linalg.qr(x if n > d else x.mT, mode="r").R


def effective_rank(eigenvalues: Tensor, kind: str = "entropy") -> Tensor:
    r"""How many eigenvalues carry a spectrum.

    | kind | value |
    | --- | --- |
    | `"entropy"` | $\exp(-\sum_i p_i \ln p_i)$ with $p_i = \lambda_i / \sum_j \lambda_j$ (Roy & Vetterli, 2007) |
    | `"participation"` | $(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2$ |
    | `"stable"` | $\sum_i \lambda_i / \max_i \lambda_i$ |

    All lie between 1 and the number of eigenvalues that are not zero, and are equal to it for equal ones.

    Args:
        eigenvalues (`Tensor` of shape `(..., n)`): not negative; NaN entries are left out.
        kind (`str`, *optional*, defaults to `"entropy"`): one of the above.

    Returns:
        `Tensor` of shape `(...)`; 0 for a spectrum of zeros.
    """
    if kind not in EFFECTIVE_RANKS:
        raise ValueError(f"`kind` must be one of {', '.join(EFFECTIVE_RANKS)}, got {kind!r}")
    values = eigenvalues.double().nan_to_num(nan=0.0)
    if (values < 0).any():
        raise ValueError(f"`eigenvalues` must not be negative, got {values.min().item():g}")
    peak = values.amax(-1, keepdim=True)
    relative = values / torch.where(peak > 0, peak, 1.0)  # squares of huge ones would overflow
    total = relative.sum(-1)
    if kind == "stable":
        return total
    if kind == "participation":
        return total.square() / relative.square().sum(-1).clamp_min(torch.finfo(torch.float64).tiny)
    share = relative / total[..., None].clamp_min(1.0)  # the largest relative value is 1
    return torch.where(total > 0, torch.special.entr(share).sum(-1).exp(), 0.0)
