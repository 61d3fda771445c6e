# SPDX-License-Identifier: Apache-2.0
"""Complex numbers as pairs of real ones in the last dimension, which every cast, optimizer and compiler understands."""

import torch
from torch import Tensor

from eigenhub.linalg.powers import complex_product


def pair(real: Tensor, imag: Tensor) -> Tensor:
    """`(...)` and `(...)` to `(..., 2)`.

    Args:
        real (`Tensor`): real parts.
        imag (`Tensor`): imaginary parts.
    """
    return torch.stack([real, imag], dim=-1)


def pair_of(values: Tensor) -> Tensor:
    """Complex `(...)` to real `(..., 2)`; the copy is contiguous.

    Args:
        values (`Tensor`): complex numbers, or real ones, whose imaginary part is then zero.
    """
    values = values if values.is_complex() else torch.complex(values, torch.zeros_like(values))
    return torch.view_as_real(values.resolve_conj()).clone()


def scale_pairs(gain_re: Tensor, gain_im: Tensor, pairs: Tensor) -> Tensor:
    """Product of complex factors with pairs `(..., 2)`.

    Args:
        gain_re (`Tensor`): real parts of the factors, to be broadcast against `pairs[..., 0]`.
        gain_im (`Tensor`): imaginary parts.
        pairs (`Tensor` of shape `(..., 2)`): complex numbers.
    """
    return pair(*complex_product(gain_re, gain_im, *pairs.unbind(-1)))
