# SPDX-License-Identifier: Apache-2.0
"""The four ways in which EigenScore is computed in papers and code. Their scores are not comparable."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Convention:
    """What to centre, what to divide by, what to add.

    Args:
        centre (`str`): `"features"`, each row by its own mean, or `"rows"`, each feature by its mean over the rows.
        divisor (`str`): `"features"` for d - 1, `"rows"` for K - 1, `"one"` for a scatter matrix.
        alpha (`float`): default of the regulariser.
        layer (`str`): where the source takes the hidden states.
        token (`str`): of which token.
    """

    centre: str
    divisor: str
    alpha: float
    layer: str
    token: str


CONVENTIONS = {
    # INSIDE's code (func/metric.py): torch.cov of the rows
    "inside": Convention("features", "features", 1e-3, "middle", "last"),
    # INSIDE's formula, as lm-polygraph has it
    "inside_paper": Convention("features", "one", 1e-3, "middle", "last"),
    # `regular_eigenscore` of the SenD code
    "send": Convention("features", "one", 1e-5, "penultimate", "mean_last"),
    # covariance over the answers
    "sample": Convention("rows", "rows", 1e-3, "penultimate", "last"),
}


def get_convention(name: str) -> Convention:
    """The convention of a name.

    Args:
        name (`str`): one of `CONVENTIONS`.
    """
    if name not in CONVENTIONS:
        raise ValueError(f"`convention` must be one of {', '.join(CONVENTIONS)}, got {name!r}")
    return CONVENTIONS[name]


def centred(x: Tensor, convention: Convention, mask: Tensor | None) -> tuple[Tensor, Tensor | int]:
    """Centred rows and the divisor of their Gram matrix.

    Args:
        x (`Tensor` of shape `(..., K, d)`): float64.
        convention (`Convention`): how.
        mask (`Tensor` of shape `(..., K)`, *optional*): true for the rows that count; the others become zero.

    Returns:
        `(..., K, d)` and the divisor: one number, or `(...)` where items differ in it.
    """
    count = x.shape[-2] if mask is None else mask.sum(-1).to(x)
    if mask is not None:
        x = torch.where(mask[..., None], x, 0.0)
    if convention.centre == "features":
        rows = x - x.mean(-1, keepdim=True)
    else:
        rows = x - x.sum(-2, keepdim=True) / (count[..., None, None] if isinstance(count, Tensor) else count)
        rows = rows if mask is None else torch.where(mask[..., None], rows, 0.0)
    if convention.divisor == "rows":
        return rows, count - 1
    return rows, x.shape[-1] - 1 if convention.divisor == "features" else 1
