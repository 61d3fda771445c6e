# SPDX-License-Identifier: Apache-2.0
"""Whether editing directions change one factor each: effects at equal visible change, DCI, correlation with attributes."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor


class DCI(NamedTuple):
    """Scores of an importance matrix, float64, in [0, 1].

    Args:
        disentanglement (`Tensor` of shape `(...)`): 1 where every direction matters to one factor only.
        completeness (`Tensor` of shape `(...)`): 1 where every factor depends on one direction only.
        by_direction (`Tensor` of shape `(..., directions)`): disentanglement of each.
        by_factor (`Tensor` of shape `(..., factors)`): completeness of each.
    """

    disentanglement: Tensor
    completeness: Tensor
    by_direction: Tensor
    by_factor: Tensor


class Effects(NamedTuple):
    """What directions do to factors at equal mean change of the pixels.

    Args:
        matrix (`Tensor` of shape `(directions, factors)`): mean change of each factor, not negative.
        steps (`Tensor` of shape `(directions,)`): how far each direction was gone, to both sides.
        changes (`Tensor` of shape `(directions,)`): mean change of the pixels there; less than was asked for where `limit` stopped
            the search: a direction that hardly does anything.
    """

    matrix: Tensor
    steps: Tensor
    changes: Tensor


def dci(importance: Tensor) -> DCI:
    r"""Disentanglement and completeness of directions, from how much each matters to each factor.

    With $R_{kj} \geq 0$, $p_{kj} = R_{kj} / \sum_j R_{kj}$ and the number of factors $F$,

    $$D_k = 1 + \sum_j p_{kj} \log_F p_{kj}, \qquad D = \sum_k \rho_k D_k, \qquad \rho_k = \sum_j R_{kj} / \sum_{kj} R_{kj} .$$

    Completeness is the same of the transpose. A row of zeros has a score of 0 and no weight.

    Args:
        importance (`Tensor` of shape `(..., directions, factors)`): $R$, not negative; two directions and two factors at least.

    Returns:
        [`DCI`].

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.metrics.disentanglement import dci
    >>> dci(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).by_direction.tolist()
    [1.0, 0.0]
    ```

    Eastwood & Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations" (ICLR 2018); factors are
    weighted as directions are, as in disentanglement_lib. Informativeness, their third score, is about predicting factors from
    codes and has no counterpart here.
    """
    if importance.ndim < 2 or min(importance.shape[-2:]) < 2:
        raise ValueError(f"`importance` must have shape (..., 2 or more, 2 or more), got {tuple(importance.shape)}")
    matrix = importance.detach().double()
    if not (torch.isfinite(matrix) & (matrix >= 0)).all():
        raise ValueError("`importance` must be finite and not negative")
    if not matrix.flatten(-2).any(-1).all():
        raise ValueError("`importance` must have an entry that is not zero")
    disentanglement, by_direction = _specialisation(matrix)
    completeness, by_factor = _specialisation(matrix.mT)
    return DCI(disentanglement, completeness, by_direction, by_factor)


@torch.no_grad()
def effect_matrix(
    moved: Callable[[int, float], Tensor],
    count: int,
    factors_of: Callable[[Tensor], Tensor],
    change: float = 0.15,
    limit: float = 1024.0,
    tolerance: float = 0.01,
) -> Effects:
    r"""Mean change of every factor along every direction, at steps that change the pixels equally.

    Directions of different scale, layer or generator can be compared only at an equal visible change. The step $\alpha_k$ is
    the one at which the mean over samples, pixels and both signs of $|I(\pm\alpha_k) - I(0)|$ is `change`, by doubling and
    bisection; the entry is the mean over samples and signs of $|f_j(I(\pm\alpha_k)) - f_j(I(0))|$.

    Args:
        moved (`Callable[[int, float], Tensor]`): images `(batch, ...)` of the same samples, moved along a direction by a step.
        count (`int`): number of directions.
        factors_of (`Callable[[Tensor], Tensor]`): factors `(batch, factors)` of images, such as a [`FactorRegressor`].
        change (`float`, *optional*, defaults to 0.15): mean change of the pixels.
        limit (`float`, *optional*, defaults to 1024.0): longest step that is tried.
        tolerance (`float`, *optional*, defaults to 0.01): relative accuracy of the change.

    Returns:
        [`Effects`]; its matrix is what [`dci`] takes. A direction that does not reach the change within the limit, because the
        images saturate or because it is dead, is warned of.
    """
    for name, value in (("count", count), ("change", change), ("limit", limit), ("tolerance", tolerance)):
        if not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value}")
    rows, steps, changes = [], [], []
    for k in range(count):
        start = moved(k, 0.0)
        step, reached = _step_of_change(partial(_change, moved, k, start), change, limit, tolerance)
        before = factors_of(start).double()
        sides = [(factors_of(moved(k, sign * step)).double() - before).abs().mean(0) for sign in (1, -1)]
        rows.append((sides[0] + sides[1]) / 2)
        steps.append(step)
        changes.append(reached)
    short = [k for k, reached in enumerate(changes) if reached < change * (1 - tolerance)]
    if short:
        warnings.warn(
            f"directions {', '.join(map(str, short))} do not reach `change` = {change:g} within `limit` = {limit:g}: their effects "
            "are those of a smaller change, see `changes`",
            stacklevel=2,
        )
    return Effects(torch.stack(rows), *(torch.tensor(values, dtype=torch.float64) for values in (steps, changes)))


def attribute_correlation(scores: Tensor, steps: Tensor) -> Tensor:
    r"""How steadily each attribute follows a direction: Pearson correlation of its score with the step, within samples.

    The mean of every sample over the steps is taken off first, so that differences between samples do not count.

    Args:
        scores (`Tensor` of shape `(..., samples, steps, attributes)`): of edited images; further dimensions for directions.
        steps (`Tensor` of shape `(steps,)`): where on the way, two different ones at least.

    Returns:
        `Tensor` of shape `(..., attributes)`, float64, in [-1, 1]; 0 for an attribute that does not change.
    """
    if scores.ndim < 3 or steps.shape != (scores.shape[-2],):
        raise ValueError(
            f"`steps` must be as many as scores have, got shapes {tuple(steps.shape)} and {tuple(scores.shape)} of `scores`"
        )
    x, alphas = scores.detach().double(), steps.detach().double().to(scores.device)
    if not (torch.isfinite(x).all() and torch.isfinite(alphas).all()):
        raise ValueError("`scores` and `steps` must be finite")
    alphas = alphas - alphas.mean()
    if not alphas.any():
        raise ValueError(f"`steps` must differ, got {steps.tolist()}")
    x = x - x.mean(-2, keepdim=True)
    along = (x * alphas[:, None]).sum((-3, -2))
    length = (x.square().sum((-3, -2)) * alphas.square().sum() * x.shape[-3]).sqrt()
    return torch.where(length > 0, along / length.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def _specialisation(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean over rows, and for each row one less the entropy of its entries, to the base of their number."""
    totals = matrix.sum(-1)
    shares = matrix / totals.clamp(min=torch.finfo(torch.float64).tiny)[..., None]
    entropy = -torch.special.xlogy(shares, shares).sum(-1) / torch.log(torch.tensor(float(matrix.shape[-1])).double())
    by_row = torch.where(totals > 0, (1 - entropy).clamp(0, 1), 0.0)
    return (totals * by_row).sum(-1) / totals.sum(-1), by_row


def _change(moved: Callable[[int, float], Tensor], k: int, start: Tensor, alpha: float) -> float:
    return sum((moved(k, sign * alpha) - start).abs().double().mean().item() for sign in (1, -1)) / 2


def _step_of_change(
    change_at: Callable[[float], float], change: float, limit: float, tolerance: float
) -> tuple[float, float]:
    low, high = 0.0, min(1.0, limit)
    reached = change_at(high)
    while reached < change * (1 - tolerance):
        if high >= limit:
            return high, reached
        low, high = high, min(2 * high, limit)
        reached = change_at(high)
    while abs(reached - change) > tolerance * change and high - low > 1e-9 * high:
        middle = (low + high) / 2
        there = change_at(middle)
        low, high, reached = (middle, high, reached) if there < change else (low, middle, there)
    return high, reached
