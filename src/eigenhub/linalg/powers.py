# SPDX-License-Identifier: Apache-2.0
"""Powers of complex numbers that are kept as a real and an imaginary part."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def wide_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """float64 where the device has it, else `dtype`.

    Args:
        dtype (`torch.dtype`): what to use where there is no float64 (Apple's devices).
        device (`torch.device`): where the computation happens.
    """
    return dtype if device.type == "mps" else torch.float64


def power_table(real: Tensor, imag: Tensor, count: int, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    r"""$z^0, \dots, z^{\mathrm{count}-1}$ by doubling: $\log_2$ products instead of `count` exponentials.

    Args:
        real (`Tensor` of shape `(...)`): real part of z. Powers of float32 numbers drift: 4e-5 after 8192 steps of an
            undamped mode; use float64 wherever the device has it, see [`wide_dtype`].
        imag (`Tensor` of shape `(...)`): imaginary part of z.
        count (`int`): number of powers, at least 1.
        dtype (`torch.dtype`, *optional*): of the result, by default that of `real`; powers are taken before the cast.

    Returns:
        Real and imaginary part, of shape `(count, ...)`, differentiable (once) also at z = 0.

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
    re, im = PowerTable.apply(real, imag, count, real.dtype if dtype is None else dtype)
    return re, im


class PowerTable(torch.autograd.Function):
    r"""[`power_table`] with the derivative $k z^{k-1}$ read off the table itself."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, imag: Tensor, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Double the table until it is full."""
        re, im = real.new_empty(count, *real.shape), real.new_empty(count, *real.shape)
        re[0], im[0] = 1, 0
        step_re, step_im, have = real, imag, 1
        while have < count:
            fresh = min(have, count - have)
            then, first_re, first_im = slice(have, have + fresh), re[:fresh], im[:fresh]
            torch.mul(first_re, step_re, out=re[then]).addcmul_(first_im, step_im, value=-1)
            torch.mul(first_re, step_im, out=im[then]).addcmul_(first_im, step_re)
            step_re, step_im = complex_product(step_re, step_im, step_re, step_im)
            have += fresh
        re, im = re.to(dtype), im.to(dtype)
        ctx.save_for_backward(re, im)
        ctx.given = real.dtype
        return re, im

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_re: Tensor, grad_im: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradient times the conjugate of the derivative, summed over the powers by a product with their exponents."""
        re, im = (part[:-1] for part in ctx.saved_tensors)
        g_re, g_im = grad_re[1:], grad_im[1:]
        k = torch.arange(1, len(grad_re), dtype=re.dtype, device=re.device)
        by_re = torch.addcmul(g_re * re, g_im, im)
        by_im = torch.addcmul(g_im * re, g_re, im, value=-1)
        to_re, to_im = (torch.mv(part.flatten(1).mT, k).view(re.shape[1:]).to(ctx.given) for part in (by_re, by_im))
        return to_re, to_im, None, None


def complex_product(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of `(a + ib)(c + id)`.

    Args:
        a (`Tensor`): real part of the first factor.
        b (`Tensor`): imaginary part of the first factor.
        c (`Tensor`): real part of the second.
        d (`Tensor`): imaginary part of the second.
    """
    return a * c - b * d, a * d + b * c


def repeated_square(real: Tensor, imag: Tensor, times: int) -> tuple[Tensor, Tensor]:
    r"""$z^{2^{\mathrm{times}}}$.

    Args:
        real (`Tensor`): real part of z.
        imag (`Tensor`): imaginary part of z.
        times (`int`): number of squarings.

    Returns:
        Real and imaginary part.
    """
    for _ in range(times):
        real, imag = complex_product(real, imag, real, imag)
    return real, imag


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
