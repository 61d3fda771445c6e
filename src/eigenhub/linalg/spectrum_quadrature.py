# SPDX-License-Identifier: Apache-2.0
"""Stochastic Lanczos quadrature: tr f(A) from products with A only."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from eigenhub.linalg.spectrum_lanczos import BREAKDOWN, Operator, lanczos_steps, tridiagonal


CHECK_EVERY = 2


class TraceEstimate(NamedTuple):
    """A stochastic trace and what the choice of probes leaves open.

    Args:
        value (`Tensor` of shape `(...)`): mean over the probes.
        standard_error (`Tensor` of shape `(...)`): of that mean; NaN for a single probe.
    """

    value: Tensor
    standard_error: Tensor


def quadrature_nodes(diagonal: Tensor, off: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss nodes and weights `(..., s)` of the spectral measures of the starting vectors.

    Args:
        diagonal (`Tensor` of shape `(..., s)`): from [`lanczos`].
        off (`Tensor` of shape `(..., s)`): from [`lanczos`].
    """
    nodes, vectors = torch.linalg.eigh(tridiagonal(diagonal, off))
    return nodes, vectors[..., 0, :].square()


def radau_extension(diagonal: Tensor, off: Tensor, node: float) -> tuple[Tensor, Tensor]:
    r"""The tridiagonal matrices with one more row, so that `node` is among their Gauss nodes (Golub, 1973).

    The new diagonal entry is $a + \beta_s^2 / d_s$ with the pivots $d_1 = \alpha_1 - a$ and
    $d_{i+1} = \alpha_{i+1} - a - \beta_i^2 / d_i$ of $T - aI$. Where one is not positive, `node` is a Ritz value already,
    and the new row stays apart.

    Args:
        diagonal (`Tensor` of shape `(..., s)`): from [`lanczos`].
        off (`Tensor` of shape `(..., s)`): from [`lanczos`].
        node (`float`): a, not above the spectrum.

    Returns:
        two tensors of shape `(..., s + 1)`.
    """
    least = BREAKDOWN * diagonal.abs().amax(-1)
    pivot = diagonal[..., 0] - node
    sound = pivot > least
    for step in range(1, diagonal.shape[-1]):
        below = off[..., step - 1].square() / torch.where(sound, pivot, 1.0)
        pivot = diagonal[..., step] - node - below
        sound = sound & (pivot > least)
    last = torch.where(sound, off[..., -1], 0.0)
    corner = node + last.square() / torch.where(sound, pivot, 1.0)
    return (
        torch.cat([diagonal, corner[..., None]], dim=-1),
        torch.cat([off[..., :-1], last[..., None], torch.zeros_like(last)[..., None]], dim=-1),
    )


def stochastic_lanczos_quadrature(
    apply: Operator,
    probes: Tensor,
    function: Callable[[Tensor], Tensor] = torch.log,
    num_steps: int = 20,
    floor: float | None = None,
    tolerance: float = 0.0,
    trace: Tensor | None = None,
) -> TraceEstimate:
    r"""Estimate $\frac1n \operatorname{tr} f(A)$ of a symmetric matrix (Ubaru, Chen & Saad, 2017).

    Each probe z gives $z^\top f(A) z / z^\top z \approx \sum_i w_i f(\theta_i)$ with the nodes of `num_steps` Lanczos
    steps, exact for polynomials of degree below `2 num_steps`. All `n` vectors of an orthonormal basis as probes, with
    `num_steps = n`, give the exact trace. Cost: `num_steps * p` products with the matrix.

    Two things make it better for nothing. A known lower bound of the spectrum gives a second quadrature with a node there
    (Gauss-Radau); for the logarithm it errs to the other side, and the mean of both is taken. A known trace takes out of
    each probe what it shares with $z^\top A z$ (a control variate).

    Args:
        apply (`Operator`): the matrix.
        probes (`Tensor` of shape `(..., p, n)`): see [`rademacher`].
        function (`Callable`, *optional*, defaults to `torch.log`): f, entry by entry.
        num_steps (`int`, *optional*, defaults to 20): Lanczos steps; more than `n` are not taken.
        floor (`float`, *optional*): known lower bound of the spectrum; rounding puts no node below it.
        tolerance (`float`, *optional*, defaults to 0.0): stop before `num_steps` once two steps change no estimate by
            more than this share of its standard error: more would not be seen beside the choice of the probes.
        trace (`Tensor` of shape `(...)`, *optional*): $\frac1n \operatorname{tr} A$.

    Raises:
        ValueError: without a probe, without a step, or with a probe of zeros.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.spectrum import gram_operator, rademacher, stochastic_lanczos_quadrature
    >>> rows = torch.randn(500, 60, dtype=torch.float64)
    >>> apply = gram_operator(rows, shift=0.1)
    >>> trace = rows.square().sum() / 500 + 0.1
    >>> value, error = stochastic_lanczos_quadrature(apply, rademacher(rows, 20), floor=0.1, trace=trace)
    ```
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}")
    if probes.ndim < 2 or probes.shape[-2] < 1 or not probes.any(-1).all():
        raise ValueError(f"`probes` must be one or more rows that are not zero, got shape {tuple(probes.shape)}")
    before = None
    for diagonal, off in lanczos_steps(apply, probes, min(num_steps, probes.shape[-1])):
        step = diagonal.shape[-1]
        if tolerance > 0 and step % CHECK_EVERY == 0:
            found = _estimate(diagonal, off, function, floor, trace)
            if before is not None and _settled(before, found, tolerance):
                return found
            before = found
    return _estimate(diagonal, off, function, floor, trace)


def _estimate(
    diagonal: Tensor,
    off: Tensor,
    function: Callable[[Tensor], Tensor],
    floor: float | None,
    trace: Tensor | None,
) -> TraceEstimate:
    rules = [(diagonal, off)]
    if floor is not None:
        rules.append(radau_extension(diagonal, off, floor))
    parts = []
    for rule in rules:
        nodes, weights = quadrature_nodes(*rule)
        images = function(nodes if floor is None else nodes.clamp_min(floor))
        parts.append((images * weights).sum(-1))  # [..., p]
        if trace is not None and len(parts) == 1:
            slope = _slope(nodes, images, weights)
    values = torch.stack(parts).mean(0)
    if trace is not None:
        values = values - slope[..., None] * (diagonal[..., 0] - trace[..., None])
    count = values.shape[-1]
    spread = values.std(-1, unbiased=True) if count > 1 else values.new_full(values.shape[:-1], float("nan"))
    return TraceEstimate(values.mean(-1), spread / count**0.5)


def _slope(nodes: Tensor, images: Tensor, weights: Tensor) -> Tensor:
    """Least-squares slope of f under the spectral measure, from the nodes of all probes together."""
    nodes, images = nodes.flatten(-2), images.flatten(-2)  # [..., p * s]
    weights = weights.flatten(-2) / weights.shape[-2]
    apart = nodes - (weights * nodes).sum(-1, keepdim=True)
    variance = (weights * apart.square()).sum(-1)
    return (weights * apart * images).sum(-1) / torch.where(variance > 0, variance, 1.0)


def _settled(before: TraceEstimate, now: TraceEstimate, tolerance: float) -> bool:
    # NaN, the error of a single probe, never compares as small
    return bool(((now.value - before.value).abs() <= tolerance * now.standard_error).all())
