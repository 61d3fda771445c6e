# SPDX-License-Identifier: Apache-2.0
"""Powers of complex numbers that are kept as a real and an imaginary part."""

import torch
from torch import Tensor


def wide_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """float64 where the device has it, else `dtype`.

    Args:
        dtype (`torch.dtype`): what to use where there is no float64 (Apple's devices).
        device (`torch.device`): where the computation happens.
    """
    return dtype if device.type == "mps" else torch.float64


def power_table(real: Tensor, imag: Tensor, count: int) -> tuple[Tensor, Tensor]:
    r"""$z^0, \dots, z^{\mathrm{count}-1}$ by doubling: $\log_2$ products instead of `count` exponentials.

    Args:
        real (`Tensor` of shape `(...)`): real part of z. Powers of float32 numbers drift: 4e-5 after 8192 steps of an
            undamped mode; use float64 wherever the device has it, see [`wide_dtype`].
        imag (`Tensor` of shape `(...)`): imaginary part of z.
        count (`int`): number of powers, at least 1.

    Returns:
        Real and imaginary part, of shape `(..., count)`, differentiable also at z = 0.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg.powers import power_table
    >>> power_table(torch.tensor(0.5), torch.tensor(0.0), 4)[0].tolist()
    [1.0, 0.5, 0.25, 0.125]
    ```
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count!r}")
    step_re, step_im = real.unsqueeze(-1), imag.unsqueeze(-1)
    re, im = torch.ones_like(step_re), torch.zeros_like(step_im)
    while (have := re.shape[-1]) < count:
        first_re, first_im = re[..., : count - have], im[..., : count - have]
        more_re, more_im = complex_product(first_re, first_im, step_re, step_im)
        re, im = torch.cat([re, more_re], dim=-1), torch.cat([im, more_im], dim=-1)
        step_re, step_im = complex_product(step_re, step_im, step_re, step_im)
    return re, im


def complex_product(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of `(a + ib)(c + id)`.

    Args:
        a (`Tensor`): real part of the first factor.
        b (`Tensor`): imaginary part of the first factor.
        c (`Tensor`): real part of the second.
        d (`Tensor`): imaginary part of the second.
    """
    return a * c - b * d, a * d + b * c


def integer_power(real: Tensor, imag: Tensor, exponent: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    r"""$z^e$ for a tensor of integers $0 \le e \le$ `limit`, by repeated squaring.

    Args:
        real (`Tensor`): real part of z.
        imag (`Tensor`): imaginary part of z.
        exponent (`Tensor`): integers, broadcast against `real`.
        limit (`int`): upper bound of the exponents.

    Returns:
        Real and imaginary part, of the broadcast shape.
    """
    re, im = torch.ones_like(real), torch.zeros_like(imag)
    for bit in range(limit.bit_length()):
        chosen = (exponent >> bit) & 1 == 1
        re, im = complex_product(re, im, torch.where(chosen, real, 1.0), torch.where(chosen, imag, 0.0))
        real, imag = complex_product(real, imag, real, imag)
    return re, im
