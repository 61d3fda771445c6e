# SPDX-License-Identifier: Apache-2.0
"""Embeddings of answers that a visitor brings: EigenScore in all conventions, without any model."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from names import CONVENTIONS, MAX_FEATURES, MAX_MATRIX, MAX_ROWS

from eigenhub.metrics import ees, eigenscore


def read_matrix(text: str | None, file: str | None) -> np.ndarray:
    """
    K rows of d numbers.

    Args:
        text (`str`, *optional*): pasted, numbers between commas or spaces, a row per line.
        file (`str`, *optional*): `.npy` or `.csv`, which comes first; nothing in it can run.
    """
    if file:
        path = Path(file)
        if path.stat().st_size > MAX_MATRIX:
            raise ValueError(f"{path.name} has more than {MAX_MATRIX // 2**20} MiB")
        if path.suffix.lower() == ".npy":
            return checked_matrix(np.load(path, mmap_mode="r", allow_pickle=False))
        if path.suffix.lower() != ".csv":
            raise ValueError(f"{path.name} must be a .npy or .csv file")
        text = path.read_text(encoding="utf-8-sig")
    if not (text or "").strip():
        raise ValueError("paste a matrix or upload one")
    return checked_matrix(_parsed(text or ""))


def _parsed(text: str) -> np.ndarray:
    try:
        return np.loadtxt(io.StringIO(text.replace(",", " ").replace(";", " ")), ndmin=2)
    except ValueError as error:
        raise ValueError(f"rows of equally many numbers were expected: {error}") from error


def checked_matrix(values: Any) -> np.ndarray:
    """
    The same in float64, or why it is no such matrix.

    Args:
        values (`array`): of a visitor.
    """
    try:
        matrix = np.asarray(values)
    except ValueError as error:
        raise ValueError("rows of equally many numbers were expected") from error
    if matrix.ndim != 2 or not 2 <= matrix.shape[0] <= MAX_ROWS or not 2 <= matrix.shape[1] <= MAX_FEATURES:
        raise ValueError(
            f"a row per answer was expected: 2 to {MAX_ROWS} rows of 2 to {MAX_FEATURES:,} numbers, got shape {matrix.shape}"
        )
    if matrix.dtype.kind not in "fiu":
        raise ValueError(f"real numbers were expected, got {matrix.dtype}")
    matrix = matrix.astype(np.float64)
    if not np.isfinite(matrix).all():
        raise ValueError(f"row {int(np.nonzero(~np.isfinite(matrix).all(1))[0][0])} has numbers that are not finite")
    return matrix


def scores_of(matrix: np.ndarray, num_moments: int = 20) -> dict[str, Any]:
    """
    Scores of every convention with their eigenvalues, and EES with its coefficients right.

    Args:
        matrix (`np.ndarray` of shape `(K, d)`): a row per answer.
        num_moments (`int`, *optional*, defaults to 20): M of EES.
    """
    import warnings

    x = torch.from_numpy(matrix)
    found: dict[str, Any] = {"shape": list(matrix.shape), "conventions": {}}
    for name in CONVENTIONS:
        score, spectrum = eigenscore(x, name, return_spectrum=True)
        found["conventions"][name] = {"eigenscore": float(score), "spectrum": _list(spectrum)}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # answers that are all the same give the floor, as said on the page
        found["ees"] = float(ees(x, num_moments, exact_trace=True))
    return found


def _list(values: torch.Tensor) -> Sequence[float]:
    return [max(0.0, float(value)) for value in values]
