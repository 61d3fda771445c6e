# SPDX-License-Identifier: Apache-2.0
"""One basis for each kind and width, shared by all optimizers of the process."""

from functools import lru_cache

import torch

from eigenhub.linalg.dct import use_fft
from eigenhub.optim.basis import Basis, IdentityBasis
from eigenhub.optim.fourier_basis import FourierBasis


@lru_cache(maxsize=64)
def get_basis(kind: str, n: int, dtype: torch.dtype, device: torch.device, transform: str = "auto") -> Basis:
    """The one basis of this kind and width, shared by all optimizers of the process.

    Args:
        kind (`str`): one of `BASES`.
        n (`int`): width.
        dtype (`torch.dtype`): `torch.float32` or `torch.float64`.
        device (`torch.device`): where the rows lie.
        transform (`str`, *optional*, defaults to `"auto"`): `"fft"` stores nothing; `"matmul"` stores n² numbers;
            `"auto"` transforms whole rows by FFT where that is faster and uses the stored matrix for few columns.
    """
    if kind == "identity":
        return IdentityBasis(kind, n, dtype, device)
    if kind.startswith("dct") and use_fft(n, device, transform):
        return FourierBasis(kind, n, dtype, device, products=transform == "auto")
    return Basis(kind, n, dtype, device)
