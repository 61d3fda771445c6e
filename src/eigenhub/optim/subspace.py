# SPDX-License-Identifier: Apache-2.0
"""The part of a step that happens inside the chosen subspace: pure functions of stacks of equal matrices.

They have no control flow that depends on data, so that `torch.compile` makes one graph of each.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from eigenhub.optim.basis import take_columns


def surviving_slots(old: Tensor, new: Tensor, width: int) -> tuple[Tensor, Tensor]:
    r"""Where the state of each newly chosen index lies in the old state.

    The change of subspace $B_{I'}^\top B_I$ is a 0/1 partial permutation, so "rotating" the moments is a gather.

    Args:
        old (`Tensor` of shape `(k, r)`): indices so far.
        new (`Tensor` of shape `(k, r)`): indices from now on.
        width (`int`): number of basis vectors.

    Returns:
        `slots (k, r)`, the old slot of each new index (0 where it had none), and `kept (k, r)`, whether it had one.
    """
    table = torch.full((old.shape[0], width), -1, dtype=torch.int64, device=old.device)
    table.scatter_(1, old, torch.arange(old.shape[1], device=old.device).expand_as(old))
    slots = table.gather(1, new)
    return slots.clamp(min=0), slots >= 0


def rotate(state: Tensor, slots: Tensor, kept: Tensor, decay: float = 1.0) -> Tensor:
    """State `(k, rows, r)` in the new subspace, times `decay`: columns whose index survived, zeros for the others."""
    return take_columns(state, slots).mul_((kept.to(state.dtype) * decay).unsqueeze(1))


def adam_direction(
    coefficients: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, root_eps: Tensor, beta1: float, beta2: float
) -> Tensor:
    r"""Adam's direction before bias correction, with both moments updated in place.

    With $c_1 = 1 - \beta_1^t$ and $c_2 = \sqrt{1 - \beta_2^t}$, Adam's $(m / c_1) / (\sqrt v / c_2 + \epsilon)$ is $c_2 / c_1$
    times $m / (\sqrt v + \epsilon c_2)$: one number for the step size and one for the denominator.

    Args:
        coefficients (`Tensor` of shape `(k, rows, r)`): the projected gradient.
        exp_avg (`Tensor` of shape `(k, rows, r)`): first moment, written to.
        exp_avg_sq (`Tensor` of shape `(k, rows, r)`): second moment, written to.
        root_eps (`Tensor`): $\epsilon c_2$, one number or one per slot `(k, 1, r)`. A tensor: a compiled step would be
            compiled again for every new Python number.
        beta1 (`float`): decay of the first moment.
        beta2 (`float`): decay of the second moment.

    Returns:
        `Tensor` of shape `(k, rows, r)`: $m / (\sqrt v + \epsilon c_2)$.
    """
    exp_avg.lerp_(coefficients, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(coefficients, coefficients, value=1 - beta2)
    return _direction(exp_avg, exp_avg_sq, root_eps)


def moved_adam_direction(
    coefficients: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    slots: Tensor,
    kept: Tensor,
    root_eps: Tensor,
    beta1: float,
    beta2: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """[`adam_direction`] after a change of subspace: the direction and both moments, as new tensors."""
    exp_avg = rotate(exp_avg, slots, kept, beta1).add_(coefficients, alpha=1 - beta1)
    exp_avg_sq = rotate(exp_avg_sq, slots, kept, beta2).addcmul_(coefficients, coefficients, value=1 - beta2)
    return _direction(exp_avg, exp_avg_sq, root_eps), exp_avg, exp_avg_sq


def _direction(exp_avg: Tensor, exp_avg_sq: Tensor, root_eps: Tensor) -> Tensor:
    denominator = exp_avg_sq.sqrt().add_(root_eps)
    return torch.div(exp_avg, denominator, out=denominator)


def residual_scale(direction: Tensor, coefficients: Tensor) -> Tensor:
    """Fira's factor of every row `(k, rows)`: how much Adam has scaled the part inside of the subspace."""
    return direction.norm(dim=-1) / (coefficients.norm(dim=-1) + 1e-8)


def limit_growth(norm: Tensor, previous: Tensor, limit: float = 1.01) -> tuple[Tensor, Tensor]:
    """Divisor that keeps a norm from growing by more than `limit` per step, and the norm after division.

    Args:
        norm (`Tensor`): norms of this step.
        previous (`Tensor`): norms after the last step; 0 means that there was none (or nothing in it), and no limit.
        limit (`float`, *optional*, defaults to 1.01): largest growth.
    """
    divisor = torch.where(previous > 0, (norm / (previous + 1e-8)).clamp(min=limit) / limit, torch.ones_like(norm))
    return divisor, norm / divisor


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one graph, for any number of rows."""
    return torch.compile(function, fullgraph=True, dynamic=None)
