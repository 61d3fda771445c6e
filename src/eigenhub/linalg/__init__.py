# SPDX-License-Identifier: Apache-2.0
"""Pure functions on plain tensors: no modules, no Hugging Face objects."""

from eigenhub.linalg.dct import column_scores, dct, dct_matrix, idct, select_basis, top_columns
from eigenhub.linalg.householder import FrameFactors, factor_frame, householder_frame, householder_product
from eigenhub.linalg.lowrank import (
    SVD_DRIVERS,
    fix_signs,
    refactor_product,
    subspace_angles,
    truncated_product_svd,
    truncated_svd,
)
from eigenhub.linalg.newton_schulz import newton_schulz, newton_schulz_factor
from eigenhub.linalg.orthogonal import (
    gram_defect,
    orthonormality_defect,
    orthonormalize,
    procrustes,
    random_orthogonal,
)
from eigenhub.linalg.precision import full_precision_matmul
from eigenhub.linalg.rotation import cayley, cayley_apply, low_rank_cayley_apply, skew_matrix


__all__ = [
    "SVD_DRIVERS",
    "FrameFactors",
    "cayley",
    "cayley_apply",
    "column_scores",
    "dct",
    "dct_matrix",
    "factor_frame",
    "fix_signs",
    "full_precision_matmul",
    "gram_defect",
    "householder_frame",
    "householder_product",
    "idct",
    "low_rank_cayley_apply",
    "newton_schulz",
    "newton_schulz_factor",
    "orthonormality_defect",
    "orthonormalize",
    "procrustes",
    "random_orthogonal",
    "refactor_product",
    "select_basis",
    "skew_matrix",
    "subspace_angles",
    "top_columns",
    "truncated_product_svd",
    "truncated_svd",
]
