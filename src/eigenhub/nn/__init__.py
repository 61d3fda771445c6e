# SPDX-License-Identifier: Apache-2.0
"""Modules and losses on plain torch, useful without the method they come from."""

from eigenhub.nn.basis_head import (
    BasisTransformationHead,
    BasisTransformationOutput,
    FoldedBasis,
    check_dims,
)
from eigenhub.nn.basis_init import ProcrustesBases, check_vectors, procrustes_bases
from eigenhub.nn.compatibility import (
    PAPER_WEIGHTS,
    ClassPrototypes,
    class_prototypes,
    compat_losses,
    contrastive_influence_loss,
    influence_loss,
    new_teacher_loss,
    old_match_loss,
    weighted_sum,
)
from eigenhub.nn.folded_head import FoldedHead
from eigenhub.nn.orthogonal_transform import OrthogonalTransform


__all__ = [
    "PAPER_WEIGHTS",
    "BasisTransformationHead",
    "BasisTransformationOutput",
    "ClassPrototypes",
    "FoldedBasis",
    "FoldedHead",
    "OrthogonalTransform",
    "ProcrustesBases",
    "check_dims",
    "check_vectors",
    "class_prototypes",
    "compat_losses",
    "contrastive_influence_loss",
    "influence_loss",
    "new_teacher_loss",
    "old_match_loss",
    "procrustes_bases",
    "weighted_sum",
]
