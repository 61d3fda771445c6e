# SPDX-License-Identifier: Apache-2.0
"""What else one can do with a better encoder and an index of old vectors, each in one form, to be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eigenhub.models.bt2.baseline_heads import fit_bct, fit_oca
from eigenhub.models.bt2.baseline_maps import Map, fit_affine, fit_mlp, fit_ridge
from eigenhub.models.bt2.head_fitting import HeadRecipe, fit_head
from eigenhub.models.bt2.vector_training import TeacherVectors, all_rows


@dataclass(frozen=True)
class UpgradePath:
    """
    A fitted way from old vectors to a better encoder.

    Args:
        new_side (`Callable`): takes new vectors, gives queries and backfilled items.
        old_side (`Callable`): takes old vectors, gives items that are not backfilled.
    """

    new_side: Map
    old_side: Map

    @torch.no_grad()
    def gallery(self, vectors: TeacherVectors) -> tuple[NDArray, NDArray, NDArray]:
        """
        Queries, items before and items after their backfill, for held-out texts.

        Args:
            vectors (`TeacherVectors`): with documents.
        """
        data = vectors.tensors()
        sides = (
            self.new_side(data["new_queries"]),
            self.old_side(data["old_documents"]),
            self.new_side(data["new_documents"]),
        )
        queries, old, new = (side.numpy().astype(np.float32) for side in sides)
        return queries, old, new


def _same(rows: Tensor) -> Tensor:
    return rows


def _head(vectors: TeacherVectors, recipe: HeadRecipe) -> UpgradePath:
    head = fit_head(vectors, recipe)
    return UpgradePath(lambda rows: head(rows).embedding, _same)


def _backward(strength: float) -> Callable[[TeacherVectors, HeadRecipe], UpgradePath]:
    return lambda vectors, recipe: UpgradePath(fit_ridge(*all_rows(vectors.tensors()), strength), _same)


def _forward(vectors: TeacherVectors, recipe: HeadRecipe) -> UpgradePath:
    new, old = all_rows(vectors.tensors())
    return UpgradePath(_same, fit_ridge(old, new, RIDGE))


RIDGE = 1e-2
BT2, PROCRUSTES = "BT2 head", "Procrustes (k = 0)"
#: Name to fit, cheapest first. Two more need no fit: rank fusion of two indexes, and embedding everything anew.
PATHS: Final[dict[str, Callable[[TeacherVectors, HeadRecipe], UpgradePath]]] = {
    PROCRUSTES: lambda vectors, recipe: _head(vectors, replace(recipe, added_dim=0)),
    "least squares new to old": _backward(0.0),
    f"ridge {RIDGE:g} new to old": _backward(RIDGE),
    "low-rank affine new to old": lambda vectors, recipe: UpgradePath(fit_affine(vectors, seed=recipe.seed), _same),
    "residual MLP new to old": lambda vectors, recipe: UpgradePath(fit_mlp(vectors, seed=recipe.seed), _same),
    f"ridge {RIDGE:g} old to new": _forward,
    "BCT, alpha 10": lambda vectors, recipe: UpgradePath(fit_bct(vectors, 10.0, seed=recipe.seed), _same),
    "BCT, alpha 1": lambda vectors, recipe: UpgradePath(fit_bct(vectors, 1.0, seed=recipe.seed), _same),
    "BCT, alpha 10, wide": lambda vectors, recipe: UpgradePath(
        fit_bct(vectors, 10.0, recipe.added_dim, seed=recipe.seed), _same
    ),
    "OCA": lambda vectors, recipe: UpgradePath(fit_oca(vectors, recipe.added_dim, seed=recipe.seed), _same),
    BT2: _head,
}


def fit_paths(
    vectors: TeacherVectors, recipe: HeadRecipe, names: Sequence[str] = tuple(PATHS)
) -> dict[str, UpgradePath]:
    """
    Fit several ways on the same vectors.

    Args:
        vectors (`TeacherVectors`): with pairs.
        recipe (`HeadRecipe`): of the head; its added part is also that of the wide baselines.
        names (`Sequence[str]`, *optional*, defaults to all of `PATHS`): which ways.
    """
    if unknown := [name for name in names if name not in PATHS]:
        raise ValueError(f"`names` must be among {', '.join(PATHS)}; got {unknown[0]!r}")
    if not vectors.has_pairs:
        raise ValueError("`vectors` must hold documents too: the baselines are fitted on pairs")
    return {name: PATHS[name](vectors, recipe) for name in names}
