# SPDX-License-Identifier: Apache-2.0
"""Structured eigenvalues for diagonal state space models (S4D)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from eigenhub.linalg.legs import legs_frequencies


def s4d_init(name: str, n: int, generator: torch.Generator | None = None) -> Tensor:
    r"""The `n // 2` eigenvalues with which an S4D channel of state size `n` starts; their conjugates are implied.

    With k = 0 … n/2 - 1:

    | name | real part | imaginary part |
    | --- | --- | --- |
    | `"legs"` | -1/2 | eigenvalues of the normal part of HiPPO-LegS |
    | `"inv"`, `"diag-inv"` | -1/2 | $\frac{n}{\pi}\left(\frac{n}{2k+1} - 1\right)$, the law of LegS for large n |
    | `"lin"`, `"diag-lin"` | -1/2 | $\pi k$, a Fourier basis |
    | `"quad"` | -1/2 | $(1 + 2k)^2/\pi$ |
    | `"inv2"` | -1/2 | $\frac{n}{\pi}\left(\frac{n}{k+1} - 1\right)$ |
    | `"real"`, `"diag-real"` | $-(k + 1)$ | 0 |
    | `"random"` | -U(0, 1) | U(0, n/2) |
    | `"imag-random"` | -1/2 | $\exp N(0, 1)$ |
    | `"real-random"` | $-\exp N(0, 1)$ | $\pi k$ |

    Args:
        name (`str`): one of the above.
        n (`int`): state size, even and at least 2.
        generator (`torch.Generator`, *optional*): source of the random ones, a generator of the CPU.

    Returns:
        `Tensor` of shape `(n // 2,)`, complex128, imaginary parts not negative, in the order of k; `"legs"` descends like
        `"inv"`.

    Example:

    ```python
    >>> from eigenhub.linalg.hippo import s4d_init
    >>> s4d_init("lin", 4).imag.tolist()
    [0.0, 3.141592653589793]
    ```

    Reference: Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models" (arXiv 2206.11893).
    """
    if name not in S4D_INITS:
        raise ValueError(f"`name` must be one of {', '.join(S4D_INITS)}, got {name!r}")
    if isinstance(n, bool) or not isinstance(n, int) or n < 2 or n % 2:
        raise ValueError(f"`n` must be an even integer of at least 2, got {n!r}")
    return S4D_INITS[name](n, generator)


def _index(n: int) -> Tensor:
    return torch.arange(n // 2, dtype=torch.float64, device="cpu")


def _damped(frequencies: Tensor) -> Tensor:
    return torch.complex(torch.full_like(frequencies, -0.5), frequencies)


def _uniform(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(n // 2, dtype=torch.float64, device="cpu", generator=generator)


def _log_normal(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.randn(n // 2, dtype=torch.float64, device="cpu", generator=generator).exp()


def _legs(n: int, generator: torch.Generator | None) -> Tensor:
    return _damped(legs_frequencies(n))


def _inv(n: int, generator: torch.Generator | None) -> Tensor:
    return _damped(n / math.pi * (n / (2 * _index(n) + 1) - 1))


def _lin(n: int, generator: torch.Generator | None) -> Tensor:
    return _damped(math.pi * _index(n))


def _quad(n: int, generator: torch.Generator | None) -> Tensor:
    return _damped((1 + 2 * _index(n)).square() / math.pi)


def _inv2(n: int, generator: torch.Generator | None) -> Tensor:
    return _damped(n / math.pi * (n / (_index(n) + 1) - 1))


def _real(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.complex(-(_index(n) + 1), torch.zeros_like(_index(n)))


def _random(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.complex(-_uniform(n, generator), n / 2 * _uniform(n, generator))


def _imag_random(n: int, generator: torch.Generator | None) -> Tensor:
    return _damped(_log_normal(n, generator))


def _real_random(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.complex(-_log_normal(n, generator), math.pi * _index(n))


S4D_INITS: dict[str, Callable[[int, torch.Generator | None], Tensor]] = {
    "legs": _legs,
    "inv": _inv,
    "diag-inv": _inv,
    "lin": _lin,
    "diag-lin": _lin,
    "quad": _quad,
    "inv2": _inv2,
    "real": _real,
    "diag-real": _real,
    "random": _random,
    "imag-random": _imag_random,
    "real-random": _real_random,
}
