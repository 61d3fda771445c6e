# SPDX-License-Identifier: Apache-2.0
"""Pure functions on plain tensors: no modules, no Hugging Face objects."""

from eigenhub.linalg.lowrank import (
    SVD_DRIVERS,
    fix_signs,
    subspace_angles,
    truncated_product_svd,
    truncated_svd,
)
from eigenhub.linalg.orthogonal import gram_defect, orthonormality_defect
from eigenhub.linalg.precision import full_precision_matmul


__all__ = [
    "SVD_DRIVERS",
    "fix_signs",
    "full_precision_matmul",
    "gram_defect",
    "orthonormality_defect",
    "subspace_angles",
    "truncated_product_svd",
    "truncated_svd",
]
