# SPDX-License-Identifier: Apache-2.0
"""The Lanczos recurrence of several starting vectors at once, and the largest eigenvalue from it."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


#: A symmetric matrix as a function: rows `(..., p, n)` to their products with it, `(..., p, n)`.
Operator = Callable[[Tensor], Tensor]

# A step whose residual is this small against the matrix has found an invariant subspace.
BREAKDOWN = 1e-12
BOUND_STEPS = 30
# Share of a Ritz value that its residual may be for it to count as an eigenvalue.
CONVERGED = 0.01


def gram_operator(rows: Tensor, scale: float | Tensor = 1.0, shift: float = 0.0) -> Operator:
    r"""The matrix $XX^\top/c + \alpha I$ as an operator that never forms it.

    Args:
        rows (`Tensor` of shape `(..., n, d)`): X.
        scale (`float` or `Tensor` of shape `(...)`, *optional*, defaults to 1.0): c.
        shift (`float`, *optional*, defaults to 0.0): alpha.
    """
    weight = torch.as_tensor(scale, dtype=rows.dtype, device=rows.device).reciprocal()[..., None, None]
    return lambda v: (v @ rows) @ rows.mT * weight + shift * v


def rademacher(like: Tensor, num_probes: int, generator: torch.Generator | None = None) -> Tensor:
    """Random signs `(..., num_probes, n)` for matrices with `n` rows, in the dtype and on the device of `like`.

    Args:
        like (`Tensor` of shape `(..., n, d)`): gives sizes, dtype and device.
        num_probes (`int`): probes per matrix.
        generator (`torch.Generator`, *optional*): source of the signs; the global one is never touched if given.
    """
    shape = (*like.shape[:-2], num_probes, like.shape[-2])
    device = generator.device if generator is not None else like.device
    signs = torch.randint(0, 2, shape, generator=generator, device=device)
    return (2 * signs - 1).to(like)


def lanczos(apply: Operator, start: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    """Tridiagonal matrices of the Krylov spaces of all starting rows at once, with full reorthogonalisation.

    Without it, converged eigenvalues come back as copies and the quadrature counts them again. A probe that has found
    an invariant subspace stops: its remaining entries are decoupled from the first and change no quadrature.

    Args:
        apply (`Operator`): the symmetric matrix.
        start (`Tensor` of shape `(..., p, n)`): starting rows; they need not be normalised, but must not be zero.
        num_steps (`int`): at most `n`.

    Returns:
        diagonals `(..., p, s)` and off-diagonals `(..., p, s)`; the last off-diagonal is the norm of the residual.
    """
    *_, last = lanczos_steps(apply, start, num_steps)
    return last


def lanczos_steps(apply: Operator, start: Tensor, num_steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """What [`lanczos`] returns, after every step.

    Args:
        apply (`Operator`): the symmetric matrix.
        start (`Tensor` of shape `(..., p, n)`): starting rows.
        num_steps (`int`): at most `n`.
    """
    vector = start / torch.linalg.vector_norm(start, dim=-1, keepdim=True)
    basis = vector.new_zeros(*vector.shape[:-1], num_steps, vector.shape[-1])  # [..., p, s, n]
    diagonal, off = vector.new_zeros(2, *vector.shape[:-1], num_steps)
    size = vector.new_zeros(vector.shape[:-1])
    alive = torch.ones_like(size, dtype=torch.bool)
    for step in range(num_steps):
        basis[..., step, :] = vector
        image = apply(vector)
        quotient = (image * vector).sum(-1)
        diagonal[..., step] = torch.where(alive, quotient, diagonal[..., 0])
        known = basis[..., : step + 1, :]
        for _ in range(2):  # once is not enough: the first pass may cancel almost everything
            image = image - ((known @ image[..., None]).mT @ known)[..., 0, :]
        norm = torch.linalg.vector_norm(image, dim=-1)
        size = torch.maximum(size, quotient.abs() + norm)
        alive = alive & (norm > BREAKDOWN * size)
        off[..., step] = torch.where(alive, norm, 0.0)
        vector = torch.where(alive[..., None], image / torch.where(alive, norm, 1.0)[..., None], 0.0)
        yield diagonal[..., : step + 1], off[..., : step + 1]


def largest_eigenvalue(apply: Operator, start: Tensor, num_steps: int = BOUND_STEPS) -> Tensor:
    """An upper estimate of the largest eigenvalue, for Chebyshev polynomials explode just outside of their interval.

    The largest Ritz value lies below the eigenvalue. Its residual is added where it is small, that is, after
    convergence, and the norm of the whole residual otherwise (Zhou & Li, 2011), which from a handful of steps on is too
    much rather than too little.

    Args:
        apply (`Operator`): symmetric positive semidefinite matrix.
        start (`Tensor` of shape `(..., p, n)`): random rows.
        num_steps (`int`, *optional*, defaults to 30): Lanczos steps; more than `n` are not taken.

    Returns:
        `Tensor` of shape `(...)`.
    """
    diagonal, off = lanczos(apply, start, min(num_steps, start.shape[-1]))
    ritz, vectors = torch.linalg.eigh(tridiagonal(diagonal, off))
    top, norm = ritz[..., -1], off[..., -1]
    residual = norm * vectors[..., -1, -1].abs()
    return (top + torch.where(residual <= CONVERGED * top, residual, norm)).amax(-1)


def tridiagonal(diagonal: Tensor, off: Tensor) -> Tensor:
    """The matrices `(..., s, s)` of a recurrence.

    Args:
        diagonal (`Tensor` of shape `(..., s)`): from [`lanczos`].
        off (`Tensor` of shape `(..., s)`): from [`lanczos`]; the last one is beyond the matrix.
    """
    beside = off[..., :-1]
    return torch.diag_embed(diagonal) + torch.diag_embed(beside, -1) + torch.diag_embed(beside, 1)
