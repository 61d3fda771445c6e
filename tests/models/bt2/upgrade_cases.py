# SPDX-License-Identifier: Apache-2.0
"""Vectors of made-up texts by two encoders that see the same meanings: the new one more of them, and more clearly."""

import numpy as np

from eigenhub.models.bt2.vector_training import TeacherVectors
from tests.models.bt2.index_cases import unit_rows


MEANINGS, OLD_WIDTH, NEW_WIDTH = 24, 16, 20
BLUR = 0.7  # of the old encoder


def encoders(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Linear maps from meanings to vectors; the old one sees two thirds of the meanings."""
    rng = np.random.default_rng(seed)
    old = np.linalg.qr(rng.normal(size=(MEANINGS, MEANINGS)))[0][:, :OLD_WIDTH]
    new = np.linalg.qr(np.hstack([old, rng.normal(size=(MEANINGS, NEW_WIDTH - OLD_WIDTH))]))[0]
    return old, new @ np.linalg.qr(rng.normal(size=(NEW_WIDTH, NEW_WIDTH)))[0]


def teachers(count: int = 400, seed: int = 1, noise: float = 0.9, better: bool = True) -> TeacherVectors:
    """Queries and documents that answer them."""
    old, new = encoders()
    rng = np.random.default_rng(seed)
    documents = unit_rows(rng.normal(size=(count, MEANINGS)))
    queries = unit_rows(documents + noise * unit_rows(rng.normal(size=(count, MEANINGS))))

    def encode(texts: np.ndarray, encoder: np.ndarray, blur: float) -> np.ndarray:
        clear = unit_rows(texts @ encoder)
        return unit_rows(clear + blur * unit_rows(rng.normal(size=clear.shape)))

    blur = 0.1 if better else 2 * BLUR
    new_q, new_d = encode(queries, new, blur), encode(documents, new, blur)
    old_q, old_d = encode(queries, old, BLUR), encode(documents, old, BLUR)
    return TeacherVectors(new_q, old_q, new_d, old_d)
