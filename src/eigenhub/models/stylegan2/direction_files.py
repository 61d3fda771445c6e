# SPDX-License-Identifier: Apache-2.0
"""Directions with labels in a folder that may travel to the Hub: vectors in safetensors, the rest in JSON."""

import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from eigenhub.files import check_entries, naming, read_json, read_tensors, replacing, write_tensors
from eigenhub.linalg.lowrank import fix_signs
from eigenhub.models.stylegan2.directions import Directions


VECTORS_NAME = "directions.safetensors"
LABELS_NAME = "directions.json"
PARTS = ("vectors", "scores")


@dataclass(frozen=True)
class LabelledDirections:
    """Directions of one layer, and what people call them.

    Args:
        directions ([`Directions`]): vectors and scores.
        basis (`str`, *optional*, defaults to `"parameter"`): how they were found.
        labels (`dict[int, str]`, *optional*): names by number of the direction.
    """

    directions: Directions
    basis: str = "parameter"
    labels: dict[int, str] = field(default_factory=dict)


def save_directions(folder: str | os.PathLike, layers: dict[str, LabelledDirections]) -> None:
    """Writes `directions.safetensors` and `directions.json`.

    The sign of a direction is arbitrary: in the files the entry of largest modulus is positive.

    Args:
        folder (`str`): where to write.
        layers (`dict[str, LabelledDirections]`): by name of the layer.
    """
    folder = Path(folder)
    tensors, table = {}, {}
    for name, given in layers.items():
        vectors, scores = given.directions
        wrong = [number for number in given.labels if not 0 <= number < vectors.shape[1]]
        if wrong:
            raise ValueError(f"`labels` of layer {name!r} must be from 0 to {vectors.shape[1] - 1}, got {wrong}")
        tensors[f"{name}.vectors"] = fix_signs(vectors, vectors.mT)[0].detach().cpu().contiguous()
        tensors[f"{name}.scores"] = scores.detach().cpu().contiguous()
        names = {str(number): text for number, text in given.labels.items()}
        table[name] = {"basis": given.basis, "labels": names, "checksum": _checksum(tensors[f"{name}.vectors"])}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    with replacing(folder / LABELS_NAME) as draft, replacing(folder / VECTORS_NAME) as other:
        draft.write_text(text, encoding="utf-8")
        write_tensors(other, tensors)


def load_directions(folder: str | os.PathLike) -> dict[str, LabelledDirections]:
    """Reads what [`save_directions`] wrote.

    Args:
        folder (`str`): where it is.

    Returns:
        `dict[str, LabelledDirections]`: by name of the layer.
    """
    try:
        return _read(Path(folder))
    except ValueError as error:
        raise ValueError(f"{os.fspath(folder)} holds no directions that can be read: {error}") from error


def _read(folder: Path) -> dict[str, LabelledDirections]:
    tensors, table = read_tensors(folder / VECTORS_NAME), read_json(folder / LABELS_NAME)
    with naming(folder / VECTORS_NAME):
        directions = {name: _directions(tensors, name) for name in table}
        if unknown := sorted(tensors.keys() - {f"{name}.{part}" for name in table for part in PARTS}):
            raise ValueError(f"`{unknown[0]}` belongs to no layer of {LABELS_NAME}")
    with naming(folder / LABELS_NAME):
        return {name: _labelled(directions[name], name, entry) for name, entry in table.items()}


def _directions(tensors: dict[str, Tensor], name: str) -> Directions:
    check_entries(tensors, {f"{name}.{part}": Tensor for part in PARTS})
    vectors, scores = (tensors[f"{name}.{part}"] for part in PARTS)
    if vectors.ndim != 2 or scores.shape != vectors.shape[1:]:
        raise ValueError(
            f"layer {name!r} must have vectors (d, k) and scores (k,), got {tuple(vectors.shape)} and {tuple(scores.shape)}"
        )
    return Directions(vectors, scores)


def _checksum(vectors: Tensor) -> int:
    """Tells labels of other vectors: a kill between the renames of two files leaves one of each."""
    return zlib.crc32(vectors.float().contiguous().numpy().tobytes())


def _labelled(directions: Directions, name: str, entry: Any) -> LabelledDirections:
    count = directions.vectors.shape[1]
    if not isinstance(entry, dict):
        raise ValueError(f"layer {name!r} must be an object with `basis` and `labels`, got {type(entry).__name__}")
    check_entries(entry, {"basis": str, "labels": dict})
    if entry.get("checksum", known := _checksum(directions.vectors)) != known:
        raise ValueError(f"layer {name!r} belongs to other vectors than those in {VECTORS_NAME}")
    numbers = {key: int(key) if key.isascii() and key.isdecimal() else -1 for key in entry["labels"]}
    if wrong := [key for key, number in numbers.items() if not 0 <= number < count]:
        raise ValueError(f"`labels` of layer {name!r} must be numbered from 0 to {count - 1}, got {wrong[0]!r}")
    return LabelledDirections(
        directions, entry["basis"], {numbers[k]: str(text) for k, text in entry["labels"].items()}
    )
