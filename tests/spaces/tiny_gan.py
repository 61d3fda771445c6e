# SPDX-License-Identifier: Apache-2.0
"""Tiny generators for folders and for the stand-in of the Hub, a pair as the embedded one comes, and what components hold."""

from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from torch import Tensor

from eigenhub.embedded.shape_generator import UNPROJECTED_FOLDER
from eigenhub.models.stylegan2 import LabelledDirections, StyleGAN2Generator, save_directions
from tests.models.stylegan2.tiny import generator


RANK = 3
LAYERS = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0"]
#: One of them, and several that move together.
LAYER, RANGE = LAYERS[1], "+".join(LAYERS[:2])


def tiny_pair(**changes) -> tuple[StyleGAN2Generator, StyleGAN2Generator]:
    """The same generator with projectors and without."""
    projected = generator(**changes).add_projectors(LAYERS, RANK)
    return projected, generator(**changes)


def save_pair(folder: Path, **changes) -> Path:
    """A folder with the projected generator, and the other one below."""
    projected, before = tiny_pair(**changes)
    projected.save_pretrained(folder)
    before.save_pretrained(folder / UNPROJECTED_FOLDER)
    return folder


def push_pair(projected: str, before: str) -> None:
    """Push both to the Hub; for a process whose `HF_ENDPOINT` is the stand-in."""
    for model, name in zip(tiny_pair(), (projected, before), strict=True):
        model.push_to_hub(name)


def push_labels(name: str) -> None:
    """Push directions with a name, in the folder that the page looks into."""
    api = HfApi()
    api.create_repo(name)
    with TemporaryDirectory() as folder:
        found = LabelledDirections(tiny_pair()[0].directions(LAYER), "parameter", {1: "of somebody else"})
        save_directions(folder, {LAYER: found})
        api.upload_folder(repo_id=name, folder_path=folder, path_in_repo="directions")


def values_of(choice: Any) -> list[Any]:
    """What the components hold that make a choice."""
    return list(astuple(choice))


def path_of(file: Any) -> str:
    """The path that a `gr.File` offers."""
    return file.value if isinstance(file.value, str) else file.value["path"]


def as_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as the page rounds them."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
