# SPDX-License-Identifier: Apache-2.0
"""EigenScore of matrices too large to factor, from random probes."""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from eigenhub.linalg.spectrum import (
    Operator,
    chebyshev_interpolation,
    chebyshev_moments,
    degree_for_log,
    gram_operator,
    largest_eigenvalue,
    rademacher,
    stochastic_lanczos_quadrature,
)


# Lanczos steps stop when they change the estimate by less than this share of its standard error.
SETTLED = 0.3
# Room above the estimated largest eigenvalue, outside of which Chebyshev polynomials explode.
HEADROOM = 1.02


@dataclass(frozen=True)
class Probing:
    """How an estimate is made.

    Args:
        method (`str`): `"slq"` or `"chebyshev"`.
        num_probes (`int`): random vectors.
        num_steps (`int`): Lanczos steps, at most.
        degree (`int`): of the interpolation.
        generator (`torch.Generator`, *optional*): source of the vectors.
    """

    method: str
    num_probes: int
    num_steps: int
    degree: int
    generator: torch.Generator | None

    def __post_init__(self) -> None:
        for name, value in (
            ("num_probes", self.num_probes),
            ("num_steps", self.num_steps),
            ("num_moments", self.degree),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")


def estimated_log_determinant(rows: Tensor, alpha: float, probing: Probing, mask: Tensor | None) -> Tensor:
    r"""Estimate of $\ln\det(\alpha I_K + XX^\top)$, from products on the smaller side.

    Args:
        rows (`Tensor` of shape `(..., K, d)`): X, float64; zero where the mask is false.
        alpha (`float`): positive.
        probing (`Probing`): how.
        mask (`Tensor` of shape `(..., K)`, *optional*): true for the rows that count.

    Returns:
        `Tensor` of shape `(...)`; rows that do not count add ln(alpha) each.
    """
    large, small = rows.shape[-2], min(rows.shape[-2:])
    side = rows.mT if large > small else rows
    probes = rademacher(side, probing.num_probes, probing.generator)
    size: float | Tensor = float(small)
    if large == small and mask is not None:  # the estimate is a mean over the coordinates that the probes have
        probes = probes * mask[..., None, :]
        size = mask.sum(-1).to(rows)
    apply = gram_operator(side, shift=alpha)
    if probing.method == "slq":
        trace = rows.square().sum((-2, -1)) / size + alpha
        mean = stochastic_lanczos_quadrature(
            apply, probes, num_steps=probing.num_steps, floor=alpha, tolerance=SETTLED, trace=trace
        ).value
    else:
        mean = _chebyshev_sum(apply, probes, alpha, probing.degree) / size
    return size * mean + (large - size) * math.log(alpha)


def _chebyshev_sum(apply: Operator, probes: Tensor, alpha: float, degree: int) -> Tensor:
    """Trace of the logarithm by interpolation on [alpha, 1.02 largest]."""
    high = (largest_eigenvalue(apply, probes) * HEADROOM).clamp_min(alpha * HEADROOM)
    wanted = degree_for_log(float(high.max()) / alpha)
    if degree < wanted:
        warnings.warn(
            f"a Chebyshev interpolation of degree {degree} does not resolve the logarithm down to alpha={alpha:g}: an "
            f"error of 0.01 needs degree {wanted}; use `num_moments={wanted}` or method 'slq'",
            RuntimeWarning,
            stacklevel=4,
        )
    low = torch.full_like(high, alpha)
    radius = ((high - low) / 2)[..., None, None]
    middle = ((high + low) / 2)[..., None, None]
    moments = chebyshev_moments(lambda v: (apply(v) - middle * v) / radius, probes, degree)  # [..., p, M + 1]
    return (moments.mean(-2) * chebyshev_interpolation(torch.log, low, high, degree)).sum(-1)
