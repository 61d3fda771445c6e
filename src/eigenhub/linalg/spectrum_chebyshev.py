# SPDX-License-Identifier: Apache-2.0
"""Chebyshev moments of a spectrum and the expansions of the logarithm that go with them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from eigenhub.linalg.spectrum_lanczos import Operator


def half_range_log_coefficients(num_moments: int) -> Tensor:
    r"""Coefficients of the logarithm on (0, 1] against the Chebyshev polynomials of [-1, 1], in closed form.

    $c_m = \frac{2 - [m = 0]}{\pi} \int_0^1 \ln\lambda \, T_m(\lambda) / \sqrt{1 - \lambda^2} \, d\lambda$, which is

    $c_0 = -\tfrac12 \ln 2$, for even m $c_m = (-1)^{m/2-1} / m$, for odd m
    $c_m = \frac{2}{\pi m} (-1)^{(m-1)/2} [-\gamma - \ln 2 - \psi(m/2) - 1/m]$.

    With them $\sum_m c_m d_m$ approaches the mean of $\ln\lambda$ where $d_m$ are the moments $\frac1K\operatorname{tr} T_m$
    of a spectrum in (0, 1] - slowly, for the logarithm has its singularity in the middle of the interval.

    Args:
        num_moments (`int`): M, the largest index.

    Returns:
        `Tensor` of shape `(M + 1,)`, float64.
    """
    if num_moments < 0:
        raise ValueError(f"`num_moments` must not be negative, got {num_moments}")
    index = torch.arange(1, num_moments + 1, dtype=torch.float64)
    sign = torch.where(index % 4 < 2, -1.0, 1.0) * torch.where(index % 2 == 1, -1.0, 1.0)
    euler_gamma = -torch.special.digamma(torch.ones((), dtype=torch.float64))
    odd = 2 / (torch.pi * index) * (-euler_gamma - math.log(2) - torch.special.digamma(index / 2) - 1 / index)
    rest = sign * torch.where(index % 2 == 1, odd, 1 / index)
    return torch.cat([torch.tensor([-math.log(2) / 2], dtype=torch.float64), rest])


def chebyshev_log_zero(num_moments: int) -> float:
    r"""What the half-range expansion says of an eigenvalue 0: $-\tfrac12\ln 2 - \sum_{m \le M,\ m\,\text{even}} 1/m$.

    Args:
        num_moments (`int`): M.
    """
    return -math.log(2) / 2 - sum(1 / m for m in range(2, num_moments + 1, 2))


def chebyshev_moments(apply: Operator, probes: Tensor, num_moments: int) -> Tensor:
    r"""Quadratic forms $z^\top T_m(A) z$ for m = 0..M of a symmetric matrix with spectrum in [-1, 1].

    Of $t_m = T_m(A) z$ only the first half is needed: $T_{2m} = 2T_m^2 - 1$ and $T_{2m+1} = 2 T_{m+1} T_m - T_1$.

    Args:
        apply (`Operator`): the matrix.
        probes (`Tensor` of shape `(..., p, n)`): z, as rows.
        num_moments (`int`): M.

    Returns:
        `Tensor` of shape `(..., p, M + 1)`.
    """
    before, current = probes, apply(probes)  # T_{m-1} z and T_m z, beginning with m = 1
    first, second = _dot(probes, probes), _dot(probes, current)
    moments = [first, second]
    for m in range(1, num_moments // 2 + 1):
        moments.append(2 * _dot(current, current) - first)  # 2m
        if 2 * m + 1 <= num_moments:
            before, current = current, 2 * apply(current) - before
            moments.append(2 * _dot(current, before) - second)  # 2m + 1
    return torch.stack(moments[: num_moments + 1], dim=-1)


def chebyshev_moments_of(eigenvalues: Tensor, num_moments: int) -> Tensor:
    """Values T_m of known eigenvalues in [-1, 1], m = 0..M.

    Args:
        eigenvalues (`Tensor` of shape `(...)`): values outside by rounding are clamped.
        num_moments (`int`): M.

    Returns:
        `Tensor` of shape `(..., M + 1)`.
    """
    order = torch.arange(num_moments + 1, dtype=eigenvalues.dtype, device=eigenvalues.device)
    return torch.cos(order * eigenvalues.clamp(-1, 1).acos()[..., None])


def chebyshev_interpolation(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, degree: int) -> Tensor:
    r"""Coefficients of the polynomial that equals a function in the Chebyshev points of [low, high].

    $f(x) \approx \sum_{m=0}^{M} a_m T_m\big((2x - low - high) / (high - low)\big)$.

    Args:
        function (`Callable`): f, entry by entry.
        low (`Tensor` of shape `(...)`): lower ends.
        high (`Tensor` of shape `(...)`): upper ends, above the lower ones.
        degree (`int`): M.

    Returns:
        `Tensor` of shape `(..., M + 1)`.
    """
    count = degree + 1
    angle = (torch.arange(count, dtype=low.dtype, device=low.device) + 0.5) * (torch.pi / count)
    centre, radius = (low + high) / 2, (high - low) / 2
    values = function(centre[..., None] + radius[..., None] * angle.cos())  # [..., points]
    cosines = torch.cos(torch.arange(count, dtype=low.dtype, device=low.device)[:, None] * angle)
    coefficients = values @ cosines.mT * (2 / count)
    coefficients[..., 0] /= 2
    return coefficients


def degree_for_log(condition: float, error: float = 0.01) -> int:
    r"""Degree at which the interpolation of the logarithm is this good, $\tfrac12\sqrt\kappa\,\ln(1/\epsilon)$.

    Args:
        condition (`float`): largest eigenvalue by the smallest.
        error (`float`, *optional*, defaults to 0.01): largest error.
    """
    return math.ceil(0.5 * math.sqrt(condition) * math.log(1 / error))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)
