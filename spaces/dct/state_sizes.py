# SPDX-License-Identifier: Apache-2.0
"""Bytes of optimizer state by formula: for any architecture, without a single weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from architectures import new_model, read_architecture
from torch import Tensor
from transformers import PreTrainedModel

from eigenhub.optim import build_param_groups, state_numbers
from eigenhub.optim.error_feedback import BLOCK
from eigenhub.optim.layout import MatrixLayout


INDEX_BYTES, STEP_BYTES, RANGE_BYTES = 8, 4, 8
FEEDBACK_BYTES = {None: 0, "int8": 1, "bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Entry:
    """
    One line of the comparison.

    Args:
        label (`str`): name for readers.
        formula (`str`): numbers per matrix, N the longer and n the shorter side, r the rank.
        optimizer (`str`): name for `state_numbers`.
        error_feedback (`str`, *optional*): of DCT-AdamW.
        counts_steps (`bool`, *optional*, defaults to `True`): whether AdamW's step counts are tensors.
    """

    label: str
    formula: str
    optimizer: str
    error_feedback: str | None = None
    counts_steps: bool = True


ENTRIES = (
    Entry("AdamW", "2Nn", "adamw"),
    Entry("LDAdam", "2Nr + 2nr + Nn", "ldadam"),
    Entry("Dion", "Nn + nr", "dion"),
    Entry("Muon", "Nn", "muon"),
    Entry("AuON", "Nn", "auon"),
    Entry("Trion", "Nn + r", "trion"),
    Entry("GaLore", "2Nr + nr", "galore", counts_steps=False),
    Entry("APOLLO", "2Nr", "apollo"),
    Entry("DCT-AdamW, feedback fp32", "2Nr + r, Nn in fp32", "dct_adamw", "fp32"),
    Entry("DCT-AdamW, feedback bf16", "2Nr + r, Nn in bf16", "dct_adamw", "bf16"),
    Entry("DCT-AdamW, feedback int8", "2Nr + r, Nn in int8", "dct_adamw", "int8"),
    Entry("DCT-AdamW", "2Nr + r", "dct_adamw"),
)


@dataclass(frozen=True)
class Shapes:
    """
    What of a model the optimizers see.

    Args:
        model_type (`str`): `model_type` of the configuration.
        matrices (`tuple[Tensor, ...]`): weights that are treated as matrices; shapes only.
        others (`tuple[Tensor, ...]`): everything else, which gets AdamW.
    """

    model_type: str
    matrices: tuple[Tensor, ...]
    others: tuple[Tensor, ...]

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in (*self.matrices, *self.others))


@lru_cache(maxsize=16)
def shapes_of(source: str) -> Shapes:
    """Shapes of the architecture that a visitor named, see `read_architecture`."""
    return split(new_model(read_architecture(source), torch.float32, "meta"))


def split(model: PreTrainedModel) -> Shapes:
    """The parameters of a model, by the rules of `build_param_groups`."""
    groups = build_param_groups(model)
    matrices = [p for g in groups if g.get("algorithm") != "adamw" for p in g["params"]]
    others = [p for g in groups if g.get("algorithm") == "adamw" for p in g["params"]]
    return Shapes(model.config.model_type, tuple(matrices), tuple(others))


def matrix_bytes(entry: Entry, shapes: Sequence[Tensor], rank: int | float, itemsize: int) -> int:
    """State of the matrices: `state_numbers` in the dtype of the weights, indices and step counts in their own."""
    return sum(_matrix_bytes(entry, shape, rank, itemsize) for shape in shapes)


def other_bytes(entry: Entry, shapes: Sequence[Tensor], itemsize: int) -> int:
    """State of AdamW for everything that is no matrix."""
    return sum(_adamw_bytes(entry, shape, itemsize) for shape in shapes)


def _adamw_bytes(entry: Entry, shape: Tensor, itemsize: int) -> int:
    return state_numbers("adamw", shape.shape) * itemsize + STEP_BYTES * entry.counts_steps


def _matrix_bytes(entry: Entry, shape: Tensor, rank: int | float, itemsize: int) -> int:
    if entry.optimizer == "adamw":
        return _adamw_bytes(entry, shape, itemsize)
    layout = MatrixLayout(shape)
    r = layout.rank(rank)
    stacked = shape.shape[0] if shape.ndim == 3 else 1
    size = state_numbers(entry.optimizer, shape.shape, r) * itemsize
    if entry.optimizer in ("trion", "dct_adamw"):
        size += stacked * r * (INDEX_BYTES - itemsize)
    if entry.optimizer == "dct_adamw":
        size += STEP_BYTES + shape.numel() * FEEDBACK_BYTES[entry.error_feedback]
    if entry.error_feedback == "int8":  # smallest entry and range of every block of a row
        size += stacked * layout.rows * -(-layout.width // BLOCK) * RANGE_BYTES
    return size


def basis_bytes(shapes: Sequence[Tensor]) -> int:
    """The shared cosine matrices, one per width, if all of them are stored."""
    return sum(4 * width**2 for width in {MatrixLayout(shape).width for shape in shapes})


def records(source: str, rank: int | float, dtype: str) -> list[dict]:
    """One record per optimizer, for programs."""
    shapes = shapes_of(source)
    itemsize = getattr(torch, dtype).itemsize
    rows = []
    for entry in ENTRIES:
        matrices = matrix_bytes(entry, shapes.matrices, rank, itemsize)
        others = other_bytes(entry, shapes.others, itemsize)
        rows.append(
            {
                "optimizer": entry.label,
                "formula": entry.formula,
                "matrix_bytes": matrices,
                "other_bytes": others,
                "total_bytes": matrices + others,
            }
        )
    return rows
