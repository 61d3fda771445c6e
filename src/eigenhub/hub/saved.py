# SPDX-License-Identifier: Apache-2.0
"""Recognise a saved folder: which method made it, and with which settings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eigenhub.files import read_json
from eigenhub.methods import METHODS, Method


CONFIG_FILES = {"adapter_config.json": "peft_type", "config.json": "model_type"}


@dataclass(frozen=True)
class SavedModel:
    """A folder written by `save_pretrained`.

    Args:
        folder (`Path`): the folder.
        method (`Method`): the method that made it.
        config (`dict[str, Any]`): its configuration file, parsed.
        records (`dict[str, dict[str, Any]]`, *optional*): the method's `record_files` that lie in the folder, parsed, by name.
    """

    folder: Path
    method: Method
    config: dict[str, Any]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_saved(folder: str | Path) -> SavedModel:
    """Find the method of a saved folder from its configuration file.

    Args:
        folder (`str | Path`): an adapter folder (`adapter_config.json`) or a model folder (`config.json`).

    Returns:
        `SavedModel`: the method and the settings.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    for name, key in CONFIG_FILES.items():
        path = folder / name
        if path.is_file():
            config = read_json(path)
            method = _method_of(config.get(key), folder, f"`{key}` of {path}")
            records = {name: read_json(folder / name) for name in method.record_files if (folder / name).is_file()}
            return SavedModel(folder, method, config, records)
    raise FileNotFoundError(f"{folder} holds none of {', '.join(CONFIG_FILES)}")


def _method_of(given: object, folder: Path, where: str) -> Method:
    """The method whose class is needed to load the folder; where that is another library's, the one that left a record."""
    for method in METHODS:
        if given in method.saved_as:
            return method
    for method in METHODS:
        if method.record_files and (folder / method.record_files[0]).is_file():
            return method
    known = [name for method in METHODS for name in method.saved_as]
    raise ValueError(f"{where} must be one of {', '.join(known)}; got {given!r}")
