# SPDX-License-Identifier: Apache-2.0
"""The losses of backward-compatible training under the name of the method; they are plain torch, see `eigenhub.nn`."""

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


__all__ = [
    "PAPER_WEIGHTS",
    "ClassPrototypes",
    "class_prototypes",
    "compat_losses",
    "contrastive_influence_loss",
    "influence_loss",
    "new_teacher_loss",
    "old_match_loss",
    "weighted_sum",
]
