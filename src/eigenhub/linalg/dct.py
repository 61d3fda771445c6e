# SPDX-License-Identifier: Apache-2.0
"""Orthonormal discrete cosine transforms of rows, and the choice of the columns that carry most."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from eigenhub.linalg.dct_plan import DctPlan, dct_plan


TRANSFORMS = ("auto", "matmul", "fft")

# Below this length one small product is quicker than the passes around an FFT.
FFT_FROM = 64
# On accelerators a product keeps up with the FFT to about this length.
ACCELERATOR_FFT_FROM = 2049
# Entries of a block of rows on a CPU: a few buffers of this size fit into its second-level cache.
CPU_BLOCK_ENTRIES = 2**18


def use_fft(n: int, device: torch.device, transform: str = "auto") -> bool:
    """Whether a transform of length `n` goes through the FFT.

    The rule depends on nothing but its arguments: a choice by measurement could differ between ranks or between a run and
    its resumption, and then the last bits of the result would.

    Args:
        n (`int`): length of the rows.
        device (`torch.device`): where they lie.
        transform (`str`, *optional*, defaults to `"auto"`): `"auto"`, `"matmul"` or `"fft"`.
    """
    if transform not in TRANSFORMS:
        raise ValueError(f"`transform` must be one of {', '.join(TRANSFORMS)}, got {transform!r}")
    if transform == "auto":
        return n >= (FFT_FROM if device.type == "cpu" else ACCELERATOR_FFT_FROM)
    return transform == "fft"


def dct_matrix(n: int, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Tensor:
    r"""The orthonormal DCT-II matrix $C_{ij} = s_i \sqrt{2/n} \cos\frac{\pi i (2j + 1)}{2n}$, $s_0 = \sqrt{1/2}$, $s_i = 1$.

    Rows are the basis vectors, so `x @ C.mT` is the DCT-II of the rows of `x` and `x @ C` the inverse (DCT-III). The
    angle is reduced modulo $4n$ in integers and the cosine taken in float64: in float32 throughout, $C C^\top - I$ reaches
    2e-4 at n = 4096.

    Args:
        n (`int`): size, at least 1.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float64`): dtype of the result.
        device (`torch.device` or `str`, *optional*): device of the result.

    Returns:
        `Tensor` of shape `(n, n)`.

    Example:

    ```python
    >>> import torch
    >>> from eigenhub.linalg import dct_matrix
    >>> c = dct_matrix(8)
    >>> bool(torch.dist(c @ c.mT, torch.eye(8, dtype=c.dtype)) < 1e-12)
    True
    ```
    """
    if n < 1:
        raise ValueError(f"`n` must be at least 1, got {n}")
    # Apple's devices have no float64.
    i = torch.arange(n, device="cpu" if device is not None and torch.device(device).type == "mps" else device)
    turns = (i[:, None] * (2 * i + 1)).remainder(4 * n)
    matrix = (math.pi / (2 * n) * turns.double()).cos() * math.sqrt(2 / n)
    matrix[0] *= math.sqrt(0.5)
    return matrix.to(dtype).to(device)


def dct(x: Tensor, transform: str = "auto") -> Tensor:
    r"""Orthonormal DCT-II of the rows of `x`, that is $x C^\top$ with $C$ = [`dct_matrix`].

    Both transforms agree for every length, odd and prime ones included; the FFT one is $O(n \log n)$ per row.

    Args:
        x (`Tensor` of shape `(..., n)`): half precision is computed in float32 and returned in its own dtype.
        transform (`str`, *optional*, defaults to `"auto"`): `"fft"`, `"matmul"`, or `"auto"`: see [`use_fft`].

    Returns:
        `Tensor` of shape `(..., n)`, differentiable.
    """
    work = _working_copy(x)
    n = x.shape[-1]
    if use_fft(n, x.device, transform):
        plan = dct_plan(n, work.dtype, work.device)
        y = _by_blocks(work, lambda rows: plan.pack(rows.index_select(-1, plan.order)).index_select(-1, plan.position))
    else:
        y = work @ dct_matrix(n, work.dtype, work.device).mT
    return y.to(x.dtype)


def idct(x: Tensor, transform: str = "auto") -> Tensor:
    r"""Orthonormal DCT-III of the rows of `x`, that is $x C$: the inverse of [`dct`].

    Args:
        x (`Tensor` of shape `(..., n)`): half precision is computed in float32 and returned in its own dtype.
        transform (`str`, *optional*, defaults to `"auto"`): as in [`dct`].

    Returns:
        `Tensor` of shape `(..., n)`, differentiable.
    """
    work = _working_copy(x)
    n = x.shape[-1]
    if use_fft(n, x.device, transform):
        plan = dct_plan(n, work.dtype, work.device)
        y = _by_blocks(work, lambda rows: _inverse(rows, plan))
    else:
        y = work @ dct_matrix(n, work.dtype, work.device)
    return y.to(x.dtype)


def _inverse(rows: Tensor, plan: DctPlan) -> Tensor:
    packed = rows.new_zeros(rows.shape[0], plan.width).index_copy(-1, plan.position, rows)
    return plan.unpack(packed).index_select(-1, plan.inverse_order)


def _by_blocks(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """`transform` of all rows: on a CPU in blocks that stay in cache, since it passes over its rows several times."""
    rows = x.reshape(-1, x.shape[-1])
    if rows.shape[0] == 0:  # an FFT of no rows is an error
        return x.clone()
    blocks = rows.split(max(1, CPU_BLOCK_ENTRIES // rows.shape[1])) if x.device.type == "cpu" else (rows,)
    parts = [transform(block) for block in blocks]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(x.shape)


def _working_copy(x: Tensor) -> Tensor:
    if not x.dtype.is_floating_point or x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"expected real rows of at least one entry, got {x.dtype} of shape {tuple(x.shape)}")
    return x.to(torch.promote_types(x.dtype, torch.float32))


def column_scores(x: Tensor, norm: int = 1) -> Tensor:
    r"""$\sum_i |x_{ij}|^p$ of every column `j`.

    Args:
        x (`Tensor` of shape `(..., m, n)`): matrices.
        norm (`int`, *optional*, defaults to 1): the exponent p, 1 or 2.

    Returns:
        `Tensor` of shape `(..., n)`.
    """
    if norm not in (1, 2):
        raise ValueError(f"`norm` must be 1 or 2, got {norm!r}")
    # Blocks of rows: the temporary of absolute values stays in cache (torch's own reductions of a norm over rows do not).
    step = max(1, CPU_BLOCK_ENTRIES // max(1, x.shape[-1])) if x.device.type == "cpu" else max(1, x.shape[-2])
    scores = x.new_zeros(*x.shape[:-2], x.shape[-1])
    for start in range(0, x.shape[-2], step):
        block = x[..., start : start + step, :]
        scores += (block.abs() if norm == 1 else block.square()).sum(-2)
    return scores


def top_columns(scores: Tensor, rank: int) -> Tensor:
    """Indices of the `rank` largest scores, ascending; among equal scores the lowest indices win.

    `torch.topk` breaks ties arbitrarily, which would let two ranks, or a run and its repetition, choose different columns.

    Args:
        scores (`Tensor` of shape `(..., n)`): larger is better; NaN counts as the largest.
        rank (`int`): number of indices, between 1 and `n`.

    Returns:
        `Tensor` of shape `(..., rank)`, int64.
    """
    if not 1 <= rank <= scores.shape[-1]:
        raise ValueError(f"`rank` must be between 1 and {scores.shape[-1]}, got {rank}")
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    return order[..., :rank].sort(dim=-1).values


def select_basis(x: Tensor, rank: int, norm: int = 1, transform: str = "auto") -> tuple[Tensor, Tensor]:
    r"""The DCT-II basis vectors that the rows of `x` lean on most, and the coefficients on them.

    With `norm=2` the choice is optimal: the part left out has at most $(1 - r/n)$ of the energy. `norm=1` has no such
    bound; on gradients the two capture nearly the same.

    Args:
        x (`Tensor` of shape `(..., m, n)`): matrices.
        rank (`int`): number of basis vectors r, between 1 and `n`.
        norm (`int`, *optional*, defaults to 1): exponent of the scores, see [`column_scores`].
        transform (`str`, *optional*, defaults to `"auto"`): as in [`dct`].

    Returns:
        `indices (..., r)`, ascending, and `coefficients (..., m, r)`, so that
        `coefficients @ dct_matrix(n)[indices]` is the projection of `x`.
    """
    spectrum = dct(x, transform)
    indices = top_columns(column_scores(spectrum, norm), rank)
    where = indices.unsqueeze(-2).expand(*spectrum.shape[:-1], rank)
    return indices, spectrum.gather(-1, where)
