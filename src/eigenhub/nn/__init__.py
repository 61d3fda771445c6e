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
from eigenhub.nn.householder_frame import HouseholderFrame
from eigenhub.nn.householder_projector import (
    apply_householder_projector,
    projector_factors,
    projector_of,
    remove_householder_projector,
)
from eigenhub.nn.low_rank_orthogonal import LowRankOrthogonal, OrthogonalFactors
from eigenhub.nn.orthogonal_transform import OrthogonalTransform


__all__ = [
    "PAPER_WEIGHTS",
    "BasisTransformationHead",
    "BasisTransformationOutput",
    "ClassPrototypes",
    "FoldedBasis",
    "FoldedHead",
    "HouseholderFrame",
    "LowRankOrthogonal",
    "OrthogonalFactors",
    "OrthogonalTransform",
    "ProcrustesBases",
    "apply_householder_projector",
    "check_dims",
    "check_vectors",
    "class_prototypes",
    "compat_losses",
    "contrastive_influence_loss",
    "influence_loss",
    "new_teacher_loss",
    "old_match_loss",
    "procrustes_bases",
    "projector_factors",
    "projector_of",
    "remove_householder_projector",
    "weighted_sum",
]
