# SPDX-License-Identifier: Apache-2.0
"""Efficient EigenScore by the kernel polynomial method (arXiv 2410.15460, algorithm 1), with its coefficients right."""

import warnings

import torch
from torch import Tensor

from eigenhub.linalg.spectrum import (
    chebyshev_log_zero,
    chebyshev_moments,
    chebyshev_moments_of,
    gram_eigenvalues,
    gram_operator,
    half_range_log_coefficients,
    largest_eigenvalue,
)
from eigenhub.metrics.embeddings import checked_embeddings


# Up to this smaller side the largest eigenvalue is computed exactly, with a hair of room for rounding.
EXACT_UP_TO = 1024
EXACT_ROOM = 1 + 1e-6
# Beyond it an upper estimate by Lanczos. Two per cent too low would put T_100 at 2e8.
LANCZOS_ROOM = 1.02
# A feature whose deviation is below this share of its size is constant up to the rounding of its mean.
CONSTANT = 1e-13


def ees(
    x: Tensor,
    num_moments: int = 20,
    num_probes: int = 20,
    exact_trace: bool = False,
    probes: Tensor | None = None,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Mean log-eigenvalue, up to scale, of standardised answers from a truncated Chebyshev expansion.

    Each feature is standardised over the K answers, all are divided by the largest singular value, and with
    $H = E^\top E$, spectrum in [0, 1],

    $\mathrm{EES} = \sum_{m=0}^{M} c_m d_m, \qquad d_m = \frac{1}{K N_z} \sum_j z_j^\top T_m(H) z_j, \qquad
    z_j \sim N(0, I)$

    with the coefficients of [`half_range_log_coefficients`][eigenhub.linalg.spectrum.half_range_log_coefficients]. It
    has no alpha and does not see the overall spread. Small eigenvalues are cut off at about -1.5 (M = 10), -1.8 (20) or
    -2.6 (100), so it cannot follow a spectrum that collapses, which is where the answers agree. Use
    [`eigenscore`][eigenhub.metrics.eigenscore]; for K up to about 1000 its exact form is also the quicker one.

    Departures from the released code: the coefficients (there they belong to no expansion of the logarithm, see
    [`ees_official`][eigenhub.metrics.ees_official.ees_official]), the term m = 0 is kept, constant features become 0
    instead of 0/0, and the largest singular value is not underestimated.

    Args:
        x (`Tensor` of shape `(..., K, d)`): embeddings, one row per answer; computed in float64.
        num_moments (`int`, *optional*, defaults to 20): M.
        num_probes (`int`, *optional*, defaults to 20): N_z.
        exact_trace (`bool`, *optional*, defaults to `False`): take the moments from the eigenvalues, without probes.
        probes (`Tensor` of shape `(K, N_z)` or `(..., K, N_z)`, *optional*): z as columns, instead of drawing them.
        mask (`Tensor` of shape `(..., K)`, *optional*): true for the answers that count.
        generator (`torch.Generator`, *optional*): source of the probes.

    Returns:
        `Tensor` of shape `(...)`, float64.

    Raises:
        ValueError: an argument outside of its range, fewer than two answers, entries that are not finite.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.metrics import ees
    >>> score = ees(torch.randn(10, 512), num_moments=20, exact_trace=True)
    ```
    """
    for name, value in (("num_moments", num_moments), ("num_probes", num_probes)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    data, mask = checked_embeddings(x, mask)
    if data.numel() == 0:
        return data.new_empty(data.shape[:-2])
    count = data.new_full(data.shape[:-2], data.shape[-2]) if mask is None else mask.sum(-1).to(data)
    rows = _normalised(_standardised(data, mask, count), num_moments, generator)
    if exact_trace:
        moments = chebyshev_moments_of(gram_eigenvalues(rows), num_moments).sum(-2)
        zero = chebyshev_moments_of(count.new_zeros(()), num_moments)
        moments = moments - (data.shape[-2] - count)[..., None] * zero  # rows that do not count
    else:
        z = _probes(rows, num_probes, probes, generator)
        z = z if mask is None else z * mask[..., None, :]
        moments = chebyshev_moments(gram_operator(rows), z, num_moments).mean(-2)
    return (moments * half_range_log_coefficients(num_moments).to(moments)).sum(-1) / count


def _standardised(x: Tensor, mask: Tensor | None, count: Tensor) -> Tensor:
    """Each feature with mean 0 and population variance 1 over the rows that count; constant ones become 0."""
    x = x if mask is None else torch.where(mask[..., None], x, 0.0)
    total = count[..., None, None]
    rows = x - x.sum(-2, keepdim=True) / total
    rows = rows if mask is None else torch.where(mask[..., None], rows, 0.0)
    deviation = (rows.square().sum(-2, keepdim=True) / total).sqrt()
    constant = deviation <= CONSTANT * x.abs().amax(-2, keepdim=True)
    return torch.where(constant, 0.0, rows / torch.where(constant, 1.0, deviation))


def _normalised(rows: Tensor, num_moments: int, generator: torch.Generator | None) -> Tensor:
    """Divide by the largest singular value; warn where there is none."""
    if min(rows.shape[-2:]) <= EXACT_UP_TO:
        largest = gram_eigenvalues(rows)[..., 0] * EXACT_ROOM
    else:
        start = _normal((*rows.shape[:-2], 1, rows.shape[-2]), rows, generator)
        largest = largest_eigenvalue(gram_operator(rows), start) * LANCZOS_ROOM
    if (largest <= 0).any():
        warnings.warn(
            "all answers of an item are the same: EES has no spectrum to look at and gives its floor, "
            f"{chebyshev_log_zero(num_moments):.4f} for {num_moments} moments",
            RuntimeWarning,
            stacklevel=3,
        )
    return rows / torch.where(largest > 0, largest, 1.0).sqrt()[..., None, None]


def _probes(rows: Tensor, num_probes: int, probes: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """Probes as rows `(..., N_z, K)`."""
    size = rows.shape[-2]
    if probes is None:
        return _normal((*rows.shape[:-2], num_probes, size), rows, generator)
    if probes.ndim < 2 or probes.shape[-2] != size or probes.shape[-1] < 1:
        raise ValueError(f"`probes` must have shape (..., {size}, N_z), got {tuple(probes.shape)}")
    return probes.to(rows).mT.expand(*rows.shape[:-2], -1, -1)


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else like.device
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)
