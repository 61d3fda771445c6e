# SPDX-License-Identifier: Apache-2.0
"""Folders that are computed once and kept: addressed by a hash of their recipe, written atomically."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from eigenhub.files import write_text


RECIPE_FILE = "recipe.json"


def cache_home() -> Path:
    """The folder that holds everything cached: `EIGENHUB_HOME`, else `XDG_CACHE_HOME/eigenhub`, else `~/.cache/eigenhub`."""
    if home := os.environ.get("EIGENHUB_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "eigenhub"


def recipe_key(recipe: Mapping[str, object]) -> str:
    """Sixteen hexadecimal digits that name a recipe, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def cached_folder(name: str, recipe: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """
    The folder built from a recipe, built now if it is not there yet.

    Processes that ask at the same time wait for the first of them. A process that dies while building leaves only a
    temporary folder behind: the final name appears by one rename of a complete folder.

    Args:
        name (`str`): kind of artefact, the first level below [`cache_home`].
        recipe (`Mapping[str, object]`): everything the result depends on, as JSON; its hash is the folder's name.
        build (`Callable[[Path], None]`): writes the artefact into the empty folder it is given.

    Returns:
        `Path`: the complete folder.
    """
    parent = cache_home() / name
    folder = parent / recipe_key(recipe)
    if (folder / RECIPE_FILE).is_file():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / f"{folder.name}.lock"):
        if not (folder / RECIPE_FILE).is_file():
            _build_atomically(folder, recipe, build)
    return folder


def _build_atomically(folder: Path, recipe: Mapping[str, object], build: Callable[[Path], None]) -> None:
    workplace = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        build(workplace)
        write_text(workplace / RECIPE_FILE, json.dumps(recipe, indent=2, sort_keys=True) + "\n")
        # A folder without a recipe cannot be trusted (half deleted by hand); rename does not replace a full folder.
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(workplace, folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
