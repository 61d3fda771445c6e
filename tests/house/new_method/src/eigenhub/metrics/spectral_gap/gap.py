# SPDX-License-Identifier: Apache-2.0
"""The relative gap between the first two singular values."""

import torch
from torch import Tensor


def spectral_gap(matrix: Tensor) -> Tensor:
    r"""Share by which the second singular value lies below the first: $1 - \sigma_2 / \sigma_1$.

    Args:
        matrix (`Tensor`): floating, shape `[..., m, n]` with $m, n \ge 2$, not zero.

    Returns:
        `Tensor`: float64, shape `[...]`, between 0 (no direction leads) and 1 (rank one).
    """
    if matrix.ndim < 2 or min(matrix.shape[-2:]) < 2 or not matrix.is_floating_point():
        raise ValueError(
            f"`matrix` must be floating, [..., m, n], m and n at least 2; got {matrix.dtype}, {tuple(matrix.shape)}"
        )
    first, second = torch.linalg.svdvals(matrix.double())[..., :2].unbind(-1)
    if (first == 0).any():
        raise ValueError("`matrix` must not be zero, got one without a nonzero entry")
    return 1 - second / first
