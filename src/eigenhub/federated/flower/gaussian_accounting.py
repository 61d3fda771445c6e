# SPDX-License-Identifier: Apache-2.0
"""What Gaussian mechanisms in a row cost, in closed form and without Opacus (arXiv 1805.06530, theorem 8)."""

import math

import torch


# Above this mu both terms of delta are rounded beyond recognition.
_HARDLY_PRIVATE = 1e3


def gaussian_epsilon(noise_multiplier: float, compositions: int, delta: float) -> float:
    r"""Epsilon at `delta` of Gaussian mechanisms in a row, exact.

    Their composition is one of $\mu = \sqrt{T} / z$, and $\delta(\varepsilon) = \Phi(\mu/2 - \varepsilon/\mu) -
    e^\varepsilon \Phi(-\mu/2 - \varepsilon/\mu)$.

    Args:
        noise_multiplier (`float`): z, noise over sensitivity, positive.
        compositions (`int`): T, how many; 0 costs nothing.
        delta (`float`): in (0, 1).
    """
    mu = math.sqrt(compositions) / noise_multiplier
    if _gaussian_delta(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _gaussian_delta(high, mu) > delta:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _gaussian_delta(middle, mu) > delta else (low, middle)
    return high


def gaussian_noise_multiplier(epsilon: float, compositions: int, delta: float) -> float:
    """The least noise over sensitivity by which Gaussian mechanisms in a row stay within epsilon and delta.

    Args:
        epsilon (`float`): positive.
        compositions (`int`): how many, at least 1.
        delta (`float`): in (0, 1).
    """
    low, high = 0.0, 1.0
    while gaussian_epsilon(high, compositions, delta) > epsilon:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_epsilon(middle, compositions, delta) > epsilon else (low, middle)
    return high


def _gaussian_delta(epsilon: float, mu: float) -> float:
    if mu == 0:
        return 0.0
    points = torch.tensor([mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu], dtype=torch.float64)
    upper, lower = torch.special.log_ndtr(points).tolist()  # in logarithms: e^epsilon alone would overflow
    if mu > _HARDLY_PRIVATE:  # their difference drowns in rounding errors; the first term alone is an upper bound
        return math.exp(upper)
    return -math.exp(upper) * math.expm1(min(0.0, epsilon + lower - upper))
