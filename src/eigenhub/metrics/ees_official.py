# SPDX-License-Identifier: Apache-2.0
"""EES as its authors released it, to be compared with. It does not approximate EigenScore."""

import functools

import numpy as np
import torch
from torch import Tensor

from eigenhub.metrics.embeddings import checked_embeddings


NODES = 400


@functools.lru_cache(maxsize=8)
def official_coefficients(num_moments: int) -> Tensor:
    r"""$\frac2\pi \int_0^1 \ln x \cos(m x) / \sqrt{1 - x^2}\,dx$ for m = 1..M: cos(m x), where T_m is cos(m arccos x).

    With x = sin(t) and t = u⁴ the integrand is smooth enough for a Gauss rule, which the logarithm is not.

    Args:
        num_moments (`int`): M.
    """
    u, weights = np.polynomial.legendre.leggauss(NODES)
    end = (np.pi / 2) ** 0.25
    u, weights = (u + 1) * end / 2, weights * end / 2
    x = np.sin(u**4)
    values = np.log(x) * np.cos(np.arange(1, num_moments + 1)[:, None] * x) * 4 * u**3
    return torch.from_numpy(values @ weights * 2 / np.pi)


def ees_official(
    x: Tensor,
    num_moments: int = 20,
    num_probes: int = 20,
    tolerance: float = 1.0,
    exact_trace: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The score that `compute_eigenscore` of the authors' code gives (EMZEDI/SEND, commit 11ba78f).

    Kept as it is: each answer is standardised over its features, the coefficients are those of
    [`official_coefficients`], the sum starts at m = 1, and the power method stops as soon as a step is shorter than
    `tolerance`, after one or two; eigenvalues above 1 then make the polynomials explode. Its limit decreases near the
    largest eigenvalue, where a logarithm increases. As a detector of wrong answers it is at chance in our studies, with
    `exact_trace` near the other scores. No score for use; see [`ees`][eigenhub.metrics.ees] and
    [`eigenscore`][eigenhub.metrics.eigenscore].

    Args:
        x (`Tensor` of shape `(K, d)`): embeddings, one row per answer.
        num_moments (`int`, *optional*, defaults to 20): M.
        num_probes (`int`, *optional*, defaults to 20): Gaussian probes.
        tolerance (`float`, *optional*, defaults to 1.0): of the power method; 1e-6 in their other file.
        exact_trace (`bool`, *optional*, defaults to `False`): exact moments and largest singular value: what remains is
            the coefficients' own error.
        generator (`torch.Generator`, *optional*): source of starting vector and probes.

    Returns:
        `Tensor` of shape `()`, float64; NaN where an answer is constant over its features.
    """
    data, _ = checked_embeddings(x, None)
    if data.ndim != 2:
        raise ValueError(f"`x` must have shape (K, d), got {tuple(data.shape)}")
    device = generator.device if generator is not None else data.device
    e = ((data - data.mean(-1, keepdim=True)) / data.std(-1, unbiased=False, keepdim=True)).mT  # [d, K]
    if exact_trace:
        probes = torch.eye(e.shape[1], dtype=e.dtype, device=e.device) * e.shape[1] ** 0.5
        e = e / torch.linalg.matrix_norm(e, 2)
    else:
        start = torch.rand(e.shape[1], 1, generator=generator, dtype=e.dtype, device=device).to(e.device)
        probes = torch.randn(e.shape[1], num_probes, generator=generator, dtype=e.dtype, device=device).to(e.device)
        e = e / _power_method(e, start, tolerance)
    before, current = probes, e.mT @ (e @ probes)
    total = e.new_zeros(())
    for coefficient in official_coefficients(num_moments).to(e):
        total = total + coefficient * (probes * current).sum() / probes.numel()
        before, current = current, 2 * (e.mT @ (e @ current)) - before
    return total


def _power_method(e: Tensor, vector: Tensor, tolerance: float, num_iterations: int = 500) -> Tensor:
    for _ in range(num_iterations):
        image = e.mT @ (e @ vector)
        image = image / image.norm()
        if (image - vector).norm() < tolerance:
            return (e @ image).norm()
        vector = image
    return (e @ image).norm()
