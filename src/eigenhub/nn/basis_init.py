# SPDX-License-Identifier: Apache-2.0
"""Where the changes of basis of a BT2 head start: orthogonal Procrustes between the two teachers."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProcrustesBases(NamedTuple):
    """Start of the two changes of basis and of the added part.

    Args:
        new (`Tensor` of shape `(n, n)`): base of $P$.
        compat (`Tensor` of shape `(m, m)`): base of $Q$.
        added (`Tensor` of shape `(rows, n)`): directions of $f$ that the first added coordinates start on;
            `rows` is `k`, or less where the new space has fewer directions than the old one.
    """

    new: Tensor
    compat: Tensor
    added: Tensor


def procrustes_bases(cross: Tensor, added_dim: int) -> ProcrustesBases:
    r"""Bases with which the head starts at the orthogonal Procrustes map, weakest directions in the added part.

    With the full decomposition $X_{new}^\top X_{old} = U S V^\top$, $P = U^\top$ turns the strongest shared directions of the
    new space to the front, and $Q = [V_{:,\,m-k:},\ V_{:,\,:m-k}]$ puts them where the old space has them.

    Args:
        cross (`Tensor` of shape `(n, m)`): sum of outer products of new and old unit vectors; sums of several
            processes may be added up before.
        added_dim (`int`): $k$.

    Returns:
        [`ProcrustesBases`], in float64.
    """
    u, _, vh = torch.linalg.svd(cross.double(), full_matrices=True)
    shared = cross.shape[1] - added_dim
    v = vh.mT
    return ProcrustesBases(u.mT, torch.cat([v[:, shared:], v[:, :shared]], dim=1), u.mT[shared : cross.shape[1]])


def check_pairs(new: Tensor, old: Tensor, new_dim: int, old_dim: int) -> tuple[Tensor, Tensor]:
    """Unit vectors in float64 of paired teacher vectors that are fit for a Procrustes start.

    Args:
        new (`Tensor`): vectors of the new teacher, `(rows, new_dim)`.
        old (`Tensor`): vectors of the old model, `(rows, old_dim)`.
        new_dim (`int`): expected length.
        old_dim (`int`): expected length.
    """
    for name, vectors, dim in (("new", new, new_dim), ("old", old, old_dim)):
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise ValueError(f"`{name}` must have shape (rows, {dim}), got {tuple(vectors.shape)}")
        check_vectors(name, vectors)
    if len(new) != len(old) or not len(new):
        raise ValueError(f"`new` and `old` must be the same inputs, got {len(new)} and {len(old)} rows")
    if len(new) < 2 * old_dim:
        warnings.warn(
            f"{len(new)} pairs for old_dim = {old_dim}: below {2 * old_dim} the Procrustes rotation is arbitrary in part",
            stacklevel=3,
        )
    return F.normalize(new.double(), dim=-1), F.normalize(old.double(), dim=-1)


def check_vectors(name: str, vectors: Tensor) -> None:
    """Raises a `ValueError` that lists the rows which are not finite or zero.

    Args:
        name (`str`): name of the argument.
        vectors (`Tensor` of shape `(rows, dim)`): embeddings.
    """
    finite = torch.isfinite(vectors).all(dim=-1)
    for problem, good in (("not finite", finite), ("zero", ~finite | (vectors != 0).any(dim=-1))):
        if not good.all():
            rows = (~good).nonzero().flatten().tolist()
            shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
            raise ValueError(f"`{name}` has {len(rows)} rows that are {problem}: {shown}")


def start_added_rows(added: nn.Linear, new: nn.Linear | None, directions: Tensor) -> None:
    """Makes the first added coordinates, before they are normalised, given directions of the new embedding's input.

    Args:
        added (`nn.Linear`): the added projection; rows beyond those of `directions` stay as they are.
        new (`nn.Linear`, *optional*): the new projection, through which the directions are read.
        directions (`Tensor` of shape `(rows, new_dim)`): orthonormal rows, times what they are to weigh.
    """
    rows = directions.to(added.weight)
    count = len(rows)
    added.weight[:count] = rows if new is None else rows @ new.weight
    if added.bias is not None:
        added.bias[:count] = 0.0 if new is None else rows @ new.bias
