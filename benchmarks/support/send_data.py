# SPDX-License-Identifier: Apache-2.0
"""Embeddings of many answers with known kinds of spectra."""

import torch
from scipy.fft import dct
from torch import Tensor


def clustered(k: int, d: int, seed: int = 0) -> Tensor:
    """As language models have them: answers in clusters, features that fall off like a power, some of them huge.

    Args:
        k (`int`): answers.
        d (`int`): features.
        seed (`int`, *optional*, defaults to 0): of everything.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(min(20, k), d, generator=generator, dtype=torch.float64)
    rows = centres[torch.randint(len(centres), (k,), generator=generator)]
    rows = rows + 0.3 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    scale = torch.arange(1, d + 1, dtype=torch.float64).rsqrt()
    scale[torch.randperm(d, generator=generator)[:4]] = 30.0
    return rows * scale


def independent(k: int, d: int, seed: int = 0) -> Tensor:
    """Nothing in common.

    Args:
        k (`int`): answers.
        d (`int`): features.
        seed (`int`, *optional*, defaults to 0): of the entries.
    """
    return torch.randn(k, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def decaying(k: int, d: int, seed: int = 0) -> Tensor:
    """Covariance with eigenvalues from 1 to 1e-6 in equal ratios, between bases of cosines with random signs.

    Args:
        k (`int`): answers.
        d (`int`): features.
        seed (`int`, *optional*, defaults to 0): of the signs.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(k, d)
    rows = torch.zeros(k, d, dtype=torch.float64)
    rows[range(size), range(size)] = torch.logspace(0, -3, size, dtype=torch.float64) * (d - 1) ** 0.5
    for dim in (0, 1):
        signs = torch.randint(0, 2, (rows.shape[dim],), generator=generator) * 2.0 - 1
        rows = torch.from_numpy(dct((rows * (signs[:, None] if dim == 0 else signs)).numpy(), axis=dim, norm="ortho"))
    return rows


KINDS = {"clustered": clustered, "independent": independent, "decaying": decaying}
