# SPDX-License-Identifier: Apache-2.0
r"""What an orthonormal DCT by one real FFT needs to know about its length (Makhoul, 1980).

With $v$ the reordering $x_0, x_2, x_4, \dots, x_5, x_3, x_1$ run backwards in time, $V = \mathrm{rfft}(v)$ and
$A_k = V_k \, s_k \sqrt{2/n} \, e^{i\pi k/2n}$, the DCT-II of $x$ is $y_k = \mathrm{Re}\,A_k$ and
$y_{n-k} = \mathrm{Im}\,A_k$: a row of $A$, seen as real numbers, *is* the transform in another order. Callers that only
want a few columns keep that order and look up [`DctPlan.position`], which saves a pass over the whole matrix.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DctPlan:
    """Tables of one length, dtype and device; see [`dct_plan`].

    Args:
        n (`int`): length of the transform.
        order (`Tensor` of shape `(n,)`): the reordering of the input, `v = x[..., order]`.
        inverse_order (`Tensor` of shape `(n,)`): its inverse, `x = v[..., inverse_order]`.
        position (`Tensor` of shape `(n,)`): column of coefficient `j` in a packed row of `width` real numbers.
        forward (`Tensor` of shape `(n // 2 + 1,)`): complex factors that turn the spectrum into packed coefficients.
        backward (`Tensor` of shape `(n // 2 + 1,)`): factors of the way back, for packed rows whose other entries are 0.
    """

    n: int
    order: Tensor
    inverse_order: Tensor
    position: Tensor
    forward: Tensor
    backward: Tensor

    @property
    def width(self) -> int:
        """Length of a packed row: two more than `n` if `n` is even, one more if it is odd."""
        return 2 * (self.n // 2 + 1)

    def pack(self, reordered: Tensor, out: Tensor | None = None) -> Tensor:
        """Packed DCT-II `(..., width)` of rows that are already in `order`, shape `(..., n)`."""
        spectrum = torch.fft.rfft(reordered)
        if out is None:
            return torch.view_as_real(spectrum * self.forward).flatten(-2)
        torch.mul(spectrum, self.forward, out=torch.view_as_complex(out.unflatten(-1, (-1, 2))))
        return out

    def unpack(self, packed: Tensor) -> Tensor:
        """Inverse of [`~DctPlan.pack`]: rows in `order` from packed rows that are 0 outside of `position`."""
        spectrum = torch.view_as_complex(packed.unflatten(-1, (-1, 2))) * self.backward
        return torch.fft.irfft(spectrum, n=self.n)


@lru_cache(maxsize=128)
def dct_plan(n: int, dtype: torch.dtype, device: torch.device) -> DctPlan:
    """The tables for rows of length `n`, kept for later calls.

    Args:
        n (`int`): length, at least 1.
        dtype (`torch.dtype`): `torch.float32` or `torch.float64`.
        device (`torch.device`): where the tables lie.
    """
    # A table made under inference mode could not be used in a differentiable transform afterwards.
    with torch.inference_mode(False), torch.no_grad():
        order = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2).flip(0)])
        order = torch.cat([order[:1], order[1:].flip(0)])
        forward, backward = _twiddles(n)
        wide = torch.promote_types(dtype, torch.complex64)
        j = torch.arange(n)
        tables = (
            order,
            order.argsort(),
            torch.where(j <= n // 2, 2 * j, 2 * (n - j) + 1),
            forward.to(wide),
            backward.to(wide),
        )
        return DctPlan(n, *(table.to(device) for table in tables))


def _twiddles(n: int) -> tuple[Tensor, Tensor]:
    k = torch.arange(n // 2 + 1, dtype=torch.float64)
    scale = torch.full_like(k, math.sqrt(2 / n))
    scale[0] = math.sqrt(1 / n)
    forward = torch.polar(scale, math.pi * k / (2 * n))
    backward = 1 / forward
    if n % 2 == 0:
        # The middle coefficient stands twice in A; packed rows carry it once, in the real part, and the inverse FFT reads
        # only the real part of this bin, which is half of what both would give.
        backward[-1] *= 2
    return forward, backward
