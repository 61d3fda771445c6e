# SPDX-License-Identifier: Apache-2.0
"""Truncated singular value decompositions and what one does with their factors."""

import torch
from torch import Tensor

from eigenhub.linalg.precision import full_precision_matmul


SVD_DRIVERS = ("auto", "full", "gram", "randomized")
SIGN_RULES = ("largest_positive", "none")
# Smallest over largest singular value down to which a frame may come from a triangular solve.
SOLVE_FROM = 1e-2

# Below this side length LAPACK's full decomposition is as quick as the eigenproblem of the Gram matrix.
GRAM_FROM = 2048
# The Gram matrix squares the condition number; in float64 it resolves sigma_r / sigma_1 down to about 1e-7.
GRAM_CONDITION_FLOOR = 1e-6


def fix_signs(u: Tensor, vh: Tensor) -> tuple[Tensor, Tensor]:
    """Make the entry of largest modulus in each column of `u` positive, so that two runs agree.

    Args:
        u (`Tensor` of shape `(..., m, r)`): left vectors, as columns.
        vh (`Tensor` of shape `(..., r, n)`): right vectors, as rows; the product `u @ vh` is unchanged.
    """
    pivot = u.abs().argmax(dim=-2, keepdim=True)
    signs = torch.where(u.gather(-2, pivot) < 0, -1.0, 1.0).to(u.dtype)
    return u * signs, vh * signs.mT


def truncated_svd(
    matrix: Tensor,
    rank: int,
    driver: str = "auto",
    niter: int = 6,
    oversample: int = 32,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Leading singular triplets of a dense matrix.

    | driver | how | cost | error |
    | --- | --- | --- | --- |
    | `"full"` | LAPACK / cuSOLVER on the whole matrix | $O(mn\min(m,n))$ | rounding |
    | `"gram"` | float64 eigenproblem of the smaller Gram matrix, then one product and a QR | the same order, about four times quicker on wide matrices | rounding; falls back to `"full"` where $\sigma_r/\sigma_1 < 10^{-6}$ |
    | `"randomized"` | block Krylov space of `niter` steps from `rank + oversample` random columns (Musco & Musco, 2015) | $O(mn\,(r + p)\,q)$ | depends on the spectrum |

    `"auto"` is `"gram"` from a smaller side of 2048 on and `"full"` below. Whatever the driver, the vectors are made
    orthonormal again and the values are recomputed as $u_i^\top W v_i$.

    Args:
        matrix (`Tensor` of shape `(m, n)`): half precision is computed in float32, float64 stays.
        rank (`int`): number of triplets, between 1 and `min(m, n)`.
        driver (`str`, *optional*, defaults to `"auto"`): one of the above.
        niter (`int`, *optional*, defaults to 6): Krylov steps, randomized driver only.
        oversample (`int`, *optional*, defaults to 32): extra random columns, randomized driver only.
        generator (`torch.Generator`, *optional*): source of the random columns; the global one is never touched if given.

    Returns:
        `u (m, rank)`, `s (rank,)` in descending order, `vh (rank, n)`, signs fixed by [`fix_signs`].

    Raises:
        ValueError: unknown driver, rank out of range, or entries that are not finite.
    """
    check_matrix(matrix, rank, driver)
    work = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    if driver == "auto":
        driver = "gram" if min(work.shape) >= GRAM_FROM else "full"
    with torch.no_grad(), full_precision_matmul(work.device.type):
        if driver == "randomized":
            u, vh = _randomized(work, rank, niter, oversample, generator)
        elif driver == "gram":
            u, vh = _gram(work, rank)
        else:
            u, _, vh = torch.linalg.svd(work, full_matrices=False)
            u, vh = u[:, :rank], vh[:rank]
        return _polish(work, u, vh)


def check_matrix(matrix: Tensor, rank: int, driver: str) -> None:
    """Raise `ValueError` for what [`truncated_svd`] cannot decompose."""
    if driver not in SVD_DRIVERS:
        raise ValueError(f"`driver` must be one of {', '.join(SVD_DRIVERS)}, got {driver!r}")
    if matrix.ndim != 2:
        raise ValueError(f"`matrix` must have two dimensions, got shape {tuple(matrix.shape)}")
    if not 1 <= rank <= min(matrix.shape):
        raise ValueError(
            f"`rank` must be between 1 and {min(matrix.shape)} for shape {tuple(matrix.shape)}, got {rank}"
        )
    if not torch.isfinite(matrix).all():
        raise ValueError("`matrix` has entries that are NaN or infinite")


def _gram(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Left vectors from the eigenproblem of the smaller Gram matrix, right vectors from one product."""
    if matrix.shape[0] > matrix.shape[1]:
        u, vh = _gram(matrix.mT, rank)
        return vh.mT, u.mT
    exact = matrix.double()
    values, vectors = torch.linalg.eigh(_outer_gram(exact))
    if values[-rank] <= GRAM_CONDITION_FLOOR**2 * values[-1]:
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        return u[:, :rank], vh[:rank]
    u = vectors[:, -rank:].flip(-1)
    return u, u.mT @ exact


def _outer_gram(x: Tensor, blocks: int = 8) -> Tensor:
    """Lower triangle of `x @ x.mT` by block columns: nearly half the work of the product (torch has no `syrk`)."""
    m = x.shape[0]
    gram = torch.zeros(m, m, dtype=x.dtype, device=x.device)
    edges = [m * i // blocks for i in range(blocks + 1)]
    for low, high in zip(edges, edges[1:], strict=False):
        gram[low:, low:high] = x[low:] @ x[low:high].mT
    return gram


def _randomized(
    matrix: Tensor, rank: int, niter: int, oversample: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Rayleigh-Ritz vectors of the block Krylov space of W Wᵀ, built on the smaller side."""
    if matrix.shape[0] > matrix.shape[1]:
        u, vh = _randomized(matrix.mT, rank, niter, oversample, generator)
        return vh.mT, u.mT
    m, n = matrix.shape
    block = min(rank + oversample, m)
    device = generator.device if generator is not None else matrix.device
    start = torch.randn(n, block, generator=generator, dtype=matrix.dtype, device=device).to(matrix.device)
    basis = torch.linalg.qr(matrix @ start).Q
    projected = matrix.mT @ basis  # (n, columns so far) = Wᵀ Q, the Ritz problem needs it anyway
    for _ in range(niter):
        if basis.shape[1] + block > m:
            break
        fresh = matrix @ projected[:, -block:]
        for _ in range(2):  # once is not enough in float32: lost orthogonality would duplicate directions
            fresh = fresh - basis @ (basis.mT @ fresh)
        fresh = torch.linalg.qr(fresh).Q
        basis = torch.cat([basis, fresh], dim=1)
        projected = torch.cat([projected, matrix.mT @ fresh], dim=1)
    _, mix = torch.linalg.eigh(_outer_gram(projected.mT.double()))
    mix = mix[:, -rank:].flip(-1).to(matrix.dtype)
    return basis @ mix, (projected @ mix).mT


def _polish(matrix: Tensor, u: Tensor, vh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal factors in the working dtype, values from the matrix itself, descending order, fixed signs."""
    u = _orthonormal_columns(u.double())
    v = _orthonormal_columns(vh.mT.double())
    s = ((matrix @ v.to(matrix.dtype)).double() * u).sum(0)
    v = v * torch.where(s < 0, -1.0, 1.0)  # QR may flip a column
    order = s.abs().argsort(descending=True, stable=True)
    u, vh = fix_signs(u[:, order], v[:, order].mT)
    return u.to(matrix.dtype), s.abs()[order].to(matrix.dtype), vh.contiguous().to(matrix.dtype)


def _orthonormal_columns(x: Tensor) -> Tensor:
    """QR with the signs of the input kept, which moves a nearly orthonormal frame by its own defect only."""
    q, r = torch.linalg.qr(x)
    return q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q.dtype)


def truncated_product_svd(b: Tensor, a: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Leading singular triplets of `b @ a` without forming the product.

    With the thin factors $b = Q_b R_b$ and $a^\top = Q_a R_a$ the product is $Q_b (R_b R_a^\top) Q_a^\top$, so one SVD of
    an (r, r) core is enough: $O((m + n) r^2 + r^3)$ instead of $O(mn \min(m, n))$.

    Args:
        b (`Tensor` of shape `(..., m, r)`): left factor; half precision is computed in float32.
        a (`Tensor` of shape `(..., r, n)`): right factor.
        rank (`int`): number of triplets to keep, at most `min(m, n, r)`.

    Returns:
        `u (..., m, rank)`, `s (..., rank)` in descending order, `vh (..., rank, n)`, signs fixed by [`fix_signs`].
    """
    limit = min(b.shape[-2], b.shape[-1], a.shape[-1])
    if not 1 <= rank <= limit:
        raise ValueError(f"`rank` must be between 1 and {limit}, got {rank}")
    wide = torch.promote_types(torch.promote_types(b.dtype, a.dtype), torch.float32)
    q_b, r_b = torch.linalg.qr(b.to(wide))
    q_a, r_a = torch.linalg.qr(a.mT.to(wide))
    u, s, vh = torch.linalg.svd(r_b @ r_a.mT, full_matrices=False)
    u, vh = fix_signs(q_b @ u[..., :rank], vh[..., :rank, :] @ q_a.mT)
    return u, s[..., :rank], vh


def refactor_product(b: Tensor, a: Tensor, sign_rule: str = "largest_positive") -> tuple[Tensor, Tensor, Tensor]:
    r"""Write `b @ a` anew with orthonormal rows on the right and the singular values on the left.

    With $a^\top = Q R$ and the SVD of the (r, r) triangle of $b R^\top = Q_b R_b$, $R_b = U S W$, the new factors are
    $a' = W Q^\top$ and $b' = b R^\top W^\top = Q_b U S$: the product is kept exactly, in $O((m + n) r^2)$ instead of
    $O(mn \min(m, n))$. All r rows of $a'$ are orthonormal and span the row space of `a`, also where `b` has a smaller
    rank or is zero; where `m < r`, columns of zeros fill $b'$. Only the triangles come from LAPACK: $b'$ is one product,
    and so is $a' = (W R^{-\top}) a$ unless `a` is badly conditioned, where Q itself is formed. A Gram matrix in place
    of the triangles would square the condition, and without that of `a` orthonormality would drift over repetitions.

    Args:
        b (`Tensor` of shape `(..., m, r)`): left factor; everything is computed in float64.
        a (`Tensor` of shape `(..., r, n)`): right factor, `r <= n`.
        sign_rule (`str`, *optional*, defaults to `"largest_positive"`): of each row of $a'$ the entry of largest modulus is
            made positive, so that builds of LAPACK agree; `"none"` leaves the signs as they come.

    Returns:
        `b' (..., m, r)`, `s (..., min(m, r))` in descending order (the norms of the columns of $b'$) and
        `a' (..., r, n)`, in float64.

    Raises:
        ValueError: shapes that do not fit, `r > n`, an unknown sign rule, or entries that are not finite.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg import refactor_product
    >>> b, s, a = refactor_product(torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0, -3.0]]))
    >>> b.tolist(), s.tolist(), a.tolist()
    ([[-6.0], [0.0]], [6.0], [[-0.0, 1.0]])
    ```
    """
    if b.ndim < 2 or a.ndim < 2 or b.shape[-1] != a.shape[-2]:
        raise ValueError(
            f"`b` (..., m, r) and `a` (..., r, n) must share r, got {tuple(b.shape)} and {tuple(a.shape)}"
        )
    if sign_rule not in SIGN_RULES:
        raise ValueError(f"`sign_rule` must be one of {', '.join(SIGN_RULES)}; got {sign_rule!r}")
    r, n = a.shape[-2:]
    if not 1 <= r <= n:
        raise ValueError(f"r must be between 1 and n: {r} rows cannot be orthonormal in {n} dimensions")
    with torch.no_grad():
        b, a = b.double(), a.double()
        r_a = torch.linalg.qr(a.mT, mode="r").R
        turned = b @ r_a.mT
        r_b = torch.linalg.qr(turned, mode="r").R
        _check_triangles(r_a, r_b)
        _, s, wh = torch.linalg.svd(r_b, full_matrices=True)  # all of W, also where m < r
        left = turned @ wh.mT
        left[..., s.shape[-1] :] = 0
        right = _rows_of(a, r_a, wh)
        if sign_rule == "largest_positive":
            right, left = _positive_rows(right, left)
    return left, s, right


def _check_triangles(r_a: Tensor, r_b: Tensor) -> None:
    """A NaN or infinity anywhere in a factor reaches its triangle, which is much smaller to look through."""
    for name, triangle in (("a", r_a), ("b", r_b)):
        if not torch.isfinite(triangle).all():
            raise ValueError(f"`{name}` has entries that are NaN or infinite")


def _rows_of(a: Tensor, r_a: Tensor, wh: Tensor) -> Tensor:
    """W Qᵀ, the orthonormal rows: by a triangular solve if that costs them no more than two digits."""
    spread = torch.linalg.svdvals(r_a)
    if (spread[..., -1] > SOLVE_FROM * spread[..., 0]).all():
        return torch.linalg.solve_triangular(r_a.mT, wh, upper=False, left=False) @ a
    return wh @ torch.linalg.qr(a.mT).Q.mT


def _positive_rows(right: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """[`fix_signs`] by the rows of `right`, from their extremes instead of the place of the largest modulus."""
    low, high = torch.aminmax(right, dim=-1, keepdim=True)
    if (low == -high).any():  # a tie: the first one decides
        right, left = fix_signs(right.mT, left.mT)
        return right.mT, left.mT
    signs = torch.where(high > -low, 1.0, -1.0).to(right.dtype)
    return right * signs, left * signs.mT


def subspace_angles(x: Tensor, y: Tensor) -> Tensor:
    """Principal angles between the column spaces of two orthonormal frames, in radians, descending.

    Angles near zero come from sines, angles near a right angle from cosines (Björck & Golub, 1973): the arc cosine alone
    cannot resolve angles below the square root of the rounding unit.

    Args:
        x (`Tensor` of shape `(..., m, r)`): orthonormal columns; half precision is computed in float32.
        y (`Tensor` of shape `(..., m, r)`): orthonormal columns.

    Returns:
        `Tensor` of shape `(..., r)`.
    """
    wide = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = x.to(wide), y.to(wide)
    cross = x.mT @ y
    cosines = torch.linalg.svdvals(cross).clamp(max=1.0).flip(-1)  # ascending: largest angle first
    sines = torch.linalg.svdvals(y - x @ cross).clamp(max=1.0)  # descending: largest angle first
    return torch.where(cosines > 0.5**0.5, sines.asin(), cosines.acos())
