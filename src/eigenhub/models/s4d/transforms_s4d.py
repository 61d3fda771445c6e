# SPDX-License-Identifier: Apache-2.0
"""Stored numbers and what they stand for: positive parts of eigenvalues, and time steps."""

import torch
import torch.nn.functional as F
from torch import Tensor


SMALLEST = 1e-4


def positive(stored: Tensor, transform: str) -> Tensor:
    """The number that a stored one stands for.

    Args:
        stored (`Tensor`): stored numbers.
        transform (`str`): `"exp"`, `"relu"` (plus 1e-4), `"softplus"`, `"sigmoid"` or `"none"`.
    """
    if transform == "exp":
        return stored.exp()
    if transform == "relu":
        return F.relu(stored) + SMALLEST
    if transform == "softplus":
        return F.softplus(stored)
    return stored.sigmoid() if transform == "sigmoid" else stored


def stored(value: Tensor, transform: str, name: str) -> Tensor:
    """Inverse of [`positive`]; for `"relu"` the value itself, as in the official code.

    Args:
        value (`Tensor`): what the stored number is to stand for.
        transform (`str`): see [`positive`].
        name (`str`): name of the setting, for the message about a value that cannot be reached.
    """
    low = 0.0 if transform in ("exp", "softplus", "sigmoid") else -torch.inf
    high = 1.0 if transform == "sigmoid" else torch.inf
    if not ((value > low) & (value < high)).all():
        raise ValueError(
            f"`{name}={transform!r}` cannot start from numbers between {value.min().item():g} and {value.max().item():g}: they "
            f"must lie between {low:g} and {high:g}, both excluded"
        )
    if transform == "exp":
        return value.log()
    if transform == "softplus":
        return value + torch.log(-torch.expm1(-value))  # log(exp(v) - 1) without overflow or cancellation
    return value.logit() if transform == "sigmoid" else value
