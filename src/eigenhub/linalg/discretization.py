# SPDX-License-Identifier: Apache-2.0
r"""From continuous to discrete time for diagonal systems, in real arithmetic.

A complex number travels as its real and imaginary part, so that everything here compiles, casts and shards like any other
tensor.
"""

import torch
from torch import Tensor

from eigenhub.linalg.powers import complex_product


METHODS = ("zoh", "bilinear")

# Below this modulus (exp(z) - 1) / z comes from its series, whose first neglected term is under 1e-16 relative.
SERIES_BELOW = 1e-2
SERIES_TERMS = 7


def discretize(
    lambda_re: Tensor, lambda_im: Tensor, step: Tensor, method: str = "zoh", dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Discrete eigenvalues $\bar\lambda$ of $x' = \lambda x + b u$ and the factor that turns $b$ into $\bar b$.

    | method | $\bar\lambda$ | factor |
    | --- | --- | --- |
    | `"zoh"` | $e^{\lambda\Delta}$ | $(e^{\lambda\Delta} - 1)/\lambda$ |
    | `"bilinear"` | $(1 + \lambda\Delta/2)/(1 - \lambda\Delta/2)$ | $\Delta/(1 - \lambda\Delta/2)$ |

    Both are exact down to $\lambda\Delta = 0$, where the factor is $\Delta$, in value and in gradient; $\Delta = 0$ gives
    $\bar\lambda = 1$ and factor 0, which holds the state.

    Args:
        lambda_re (`Tensor`): real parts of the eigenvalues.
        lambda_im (`Tensor`): imaginary parts.
        step (`Tensor`): $\Delta$, not negative; the three are broadcast against one another.
        method (`str`, *optional*, defaults to `"zoh"`): one of the above.
        dtype (`torch.dtype`, *optional*): dtype of the arithmetic and of the results, by default that of the arguments.
            Ask for `torch.float64` where powers are to be taken: a phase of 500 rad per step has 3e-5 rad of rounding in
            float32, and each step adds it again.

    Returns:
        Real and imaginary part of $\bar\lambda$, real and imaginary part of the factor.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.hippo import discretize
    >>> re, im, gain_re, gain_im = discretize(torch.tensor([-0.5, 0.0]), torch.tensor([3.0, 0.0]), torch.tensor(0.1))
    >>> gain_re[1].item() == torch.tensor(0.1).item()
    True
    ```
    """
    check_method(method)
    if dtype is not None:
        lambda_re, lambda_im, step = lambda_re.to(dtype), lambda_im.to(dtype), step.to(dtype)
    x, y = lambda_re * step, lambda_im * step
    return _zoh(x, y, step) if method == "zoh" else _bilinear(x, y, step)


def check_method(method: str) -> None:
    """Raise `ValueError` for a rule that [`discretize`] does not know.

    Args:
        method (`str`): name of the rule.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}")


def _zoh(x: Tensor, y: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    growth = x.exp()
    real, imag = growth * y.cos(), growth * y.sin()
    ratio_re, ratio_im = exprel(x, y)
    return real, imag, step * ratio_re, step * ratio_im


def _bilinear(x: Tensor, y: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    quarter = (x.square() + y.square()) / 4
    norm = 1 - x + quarter  # |1 - z/2|²
    return (1 - quarter) / norm, y / norm, step * (1 - x / 2) / norm, step * y / (2 * norm)


def exprel(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    r"""$(e^z - 1)/z$ of $z = x + iy$, without cancellation in value or derivative near $z = 0$.

    Args:
        x (`Tensor`): real part.
        y (`Tensor`): imaginary part, of the same shape.

    Returns:
        Real and imaginary part.
    """
    small = x.square() + y.square() < SERIES_BELOW**2
    series_re, series_im = _exprel_series(torch.where(small, x, 0.0), torch.where(small, y, 0.0))
    # the unused branch must stay finite, or its zero gradient becomes NaN
    x, y = torch.where(small, 1.0, x), torch.where(small, 1.0, y)
    real, imag = complex_expm1(x, y)
    norm = x.square() + y.square()
    closed_re, closed_im = (real * x + imag * y) / norm, (imag * x - real * y) / norm
    return torch.where(small, series_re, closed_re), torch.where(small, series_im, closed_im)


def complex_expm1(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of $e^{x + iy} - 1$, without cancellation near zero.

    Args:
        x (`Tensor`): real part of the exponent.
        y (`Tensor`): imaginary part.
    """
    return x.expm1() * y.cos() - 2 * (y / 2).sin().square(), x.exp() * y.sin()


def dss_factor(
    lambda_re: Tensor, lambda_im: Tensor, step: Tensor, length: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""As [`discretize`] for the rule of DSS, $\frac{1}{2\lambda}\,\mathrm{softmax}_l(\lambda\Delta l)$ over $0 \le l < L$.

    The powers of each eigenvalue are divided by their sum over the whole length; the 1/2 takes back the factor 2 of a
    kernel of conjugate pairs, which DSS does not have. The division is $\bar x / (|x|^2 + 10^{-7})$ as in the released code.

    Args:
        lambda_re (`Tensor`): real parts of the eigenvalues, not positive.
        lambda_im (`Tensor`): imaginary parts.
        step (`Tensor`): $\Delta$.
        length (`int`): L.

    Returns:
        As [`discretize`].
    """
    x, y = lambda_re * step, lambda_im * step
    growth, (num_re, num_im) = x.exp(), complex_expm1(x, y)
    sum_re, sum_im = complex_expm1(x * length, y * length)
    den_re, den_im = complex_product(sum_re, sum_im, lambda_re, lambda_im)
    scale = 0.5 / (den_re.square() + den_im.square() + 1e-7)
    gain_re, gain_im = complex_product(num_re, num_im, den_re * scale, -den_im * scale)
    return growth * y.cos(), growth * y.sin(), gain_re, gain_im


def _exprel_series(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Horner's scheme for 1 + z/2 (1 + z/3 (1 + ...))."""
    real, imag = torch.ones_like(x), torch.zeros_like(x)
    for k in range(SERIES_TERMS, 1, -1):
        real, imag = 1 + (x * real - y * imag) / k, (x * imag + y * real) / k
    return real, imag
