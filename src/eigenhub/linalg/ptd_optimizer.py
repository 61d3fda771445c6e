# SPDX-License-Identifier: Apache-2.0
r"""Minimiser of $\log \kappa_2(V) + \gamma \lVert E \rVert_F / \lVert A \rVert_F$ over real perturbations of HiPPO-LegS.

Three things make it quick. The extreme singular values in $\kappa_2$ are replaced by Schatten norms of growing order, so that the
objective is smooth and L-BFGS works. The minimiser has a limit as a function on the unit square when n grows, so that the one
of n/2, enlarged, is nearly that of n. And the restarts that tell the local minima apart happen where they cost nothing, at the
smallest size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eigenhub.linalg.legs import hippo_legs


# Largest size at which the search starts.
COARSEST = 6
# Starts with noise of this size (relative to A) beside the closed-form one. About half of them end in the best minimum, in
# which one eigenvalue is real and near -0.3 n².
NOISY_STARTS = 6
NOISE = 0.3
# Orders of the Schatten norms: of the search, and of the refinement at larger sizes.
SEARCH_ORDERS = (8, 32, 128)
REFINE_ORDERS = (32, 128)
# The penalty on real parts starts here; at the minimum it is not active.
MARGIN = 0.25
PENALTY = 10.0


def default_gamma(n: int) -> float:
    r"""Weight of the size of E: $5n/4$, at most 26.8, which gives a condition number of 8 for large n.

    Args:
        n (`int`): order.
    """
    return min(1.25 * n, 26.8)


def optimize_perturbation(n: int, gamma: float, tau: float, steps: int, seed: int) -> Tensor:
    r"""A real E for which $A + E$ has well-conditioned eigenvectors.

    Args:
        n (`int`): order.
        gamma (`float`): weight of the size of E.
        tau (`float`): the first start is $\tau P P^\top$, for which all eigenvalues are stable.
        steps (`int`): largest number of L-BFGS iterations at each size and order of the norm.
        seed (`int`): seed of the further starts.

    Returns:
        `Tensor` of shape `(n, n)`, float64.
    """
    if n == 1:
        return torch.zeros(1, 1, dtype=torch.float64, device="cpu")
    sizes = [n]
    while sizes[0] > COARSEST:
        sizes.insert(0, -(-sizes[0] // 2))
    ends = [_descend(start, gamma, SEARCH_ORDERS, steps) for start in _starts(sizes[0], tau, seed)]
    best = min(ends, key=lambda e: _loss(e, gamma, SEARCH_ORDERS[-1]).item())
    for size in sizes[1:]:
        best = _descend(enlarge(best, size), gamma, REFINE_ORDERS, steps)
    return best.float().double()  # what a file in float32 gives back


def _starts(n: int, tau: float, seed: int) -> list[Tensor]:
    a, _, p = hippo_legs(n)
    generator = torch.Generator("cpu").manual_seed(seed)
    first = tau * torch.outer(p, p)
    scale = NOISE * torch.linalg.matrix_norm(a, 2) / math.sqrt(n)
    noise = torch.randn(NOISY_STARTS, n, n, dtype=torch.float64, device="cpu", generator=generator)
    return [first, *(first + scale * noise)]


def enlarge(e: Tensor, n: int) -> Tensor:
    """The perturbation of order `n` that is the same function on the unit square, by bilinear interpolation.

    Args:
        e (`Tensor` of shape `(m, m)`): perturbation of a smaller order.
        n (`int`): the order wanted.
    """
    grown = torch.nn.functional.interpolate(e[None, None], size=(n, n), mode="bilinear", align_corners=False)
    return grown[0, 0] * (n / e.shape[0])


def _descend(start: Tensor, gamma: float, orders: Sequence[int], steps: int) -> Tensor:
    """L-BFGS over the orders of the norm; the best iterate seen, in units in which A has entries of about one."""
    a, _, _ = hippo_legs(start.shape[0])
    unit = torch.linalg.matrix_norm(a) / a.shape[0]
    x = (start / unit).requires_grad_()
    for order in orders:
        best = (math.inf, x.detach().clone())
        optimizer = torch.optim.LBFGS(
            [x], max_iter=steps, history_size=50, tolerance_change=1e-9, line_search_fn="strong_wolfe"
        )

        def closure(optimizer: torch.optim.Optimizer = optimizer, order: int = order) -> float:
            nonlocal best
            optimizer.zero_grad()
            loss = _loss(x * unit, gamma, order)
            loss.backward()
            assert x.grad is not None
            x.grad.nan_to_num_(0.0, 0.0, 0.0)  # eigenvalues that meet: no step along them
            if loss.item() < best[0]:
                best = (loss.item(), x.detach().clone())
            return loss.item()

        optimizer.step(closure)
        with torch.no_grad():
            x.copy_(best[1])
    return (x * unit).detach()


def _loss(e: Tensor, gamma: float, order: int) -> Tensor:
    a, _, _ = hippo_legs(e.shape[0])
    values, v = torch.linalg.eig(a + e)
    size = torch.linalg.matrix_norm(e) / torch.linalg.matrix_norm(a)
    unstable = (values.real + MARGIN).relu().square().sum()
    return _log_condition(v, order) + gamma * size + PENALTY * unstable


def _log_condition(v: Tensor, order: int) -> Tensor:
    r"""$\log (\lVert V \rVert_p \lVert V^{-1} \rVert_p)$ of Schatten norms, at most $(2/p) \log n$ above $\log \kappa_2$."""
    logs = order * torch.linalg.svdvals(v).log()
    return (logs.logsumexp(0) + (-logs).logsumexp(0)) / order
