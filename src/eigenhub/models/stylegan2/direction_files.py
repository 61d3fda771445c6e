# SPDX-License-Identifier: Apache-2.0
"""Directions with labels in a folder that may travel to the Hub: vectors in safetensors, the rest in JSON."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from eigenhub.linalg.lowrank import fix_signs
from eigenhub.models.stylegan2.directions import Directions


VECTORS_NAME = "directions.safetensors"
LABELS_NAME = "directions.json"


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
        table[name] = {"basis": given.basis, "labels": {str(k): text for k, text in given.labels.items()}}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / VECTORS_NAME)
    (folder / LABELS_NAME).write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_directions(folder: str | os.PathLike) -> dict[str, LabelledDirections]:
    """Reads what [`save_directions`] wrote.

    Args:
        folder (`str`): where it is.

    Returns:
        `dict[str, LabelledDirections]`: by name of the layer.
    """
    folder = Path(folder)
    try:
        tensors = load_file(folder / VECTORS_NAME)
        table = json.loads((folder / LABELS_NAME).read_text(encoding="utf-8"))
        return {
            name: LabelledDirections(
                Directions(tensors[f"{name}.vectors"], tensors[f"{name}.scores"]),
                str(entry["basis"]),
                {int(k): str(text) for k, text in entry["labels"].items()},
            )
            for name, entry in table.items()
        }
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{folder} holds no directions that can be read: {error!r}") from error
