# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint folders are complete: a manifest of file sizes, the latest valid one, rotation."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from eigenhub.files import read_json
from eigenhub.files.writing import REPLACED, recovered


MANIFEST = "checkpoint.json"
_NAME = re.compile(r"step_(\d+)")


def checkpoint_name(step: int) -> str:
    """`step_000123`: sorts by step, also as text."""
    return f"step_{step:06d}"


def write_manifest(folder: Path, step: int, settings: dict[str, object]) -> None:
    """Notes the size of every file, so that a folder cut short (full disk, power loss) is recognised later."""
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }
    manifest = {"step": step, "settings": settings, "files": sizes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def read_manifest(folder: Path) -> dict | None:
    """The manifest of a complete checkpoint, or None if the folder is torn."""
    try:
        manifest = read_json(folder / MANIFEST, {"step": int, "settings": dict, "files": dict})
        complete = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
    except (OSError, ValueError):
        return None
    return manifest if complete else None


def numbered_folders(folder: Path, name: re.Pattern) -> list[Path]:
    """Folders that bear a number in their name, in its order; one that was being replaced when the process died counts.

    Args:
        folder (`Path`): where they are.
        name (`re.Pattern`): of a whole name, with the number as its one group.
    """
    places = {path.with_name(path.name.removesuffix(REPLACED)) for path in folder.glob("*_*")}
    found = [(int(match[1]), recovered(path)) for path in places if (match := name.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders that bear a checkpoint's name, by step; temporary ones do not."""
    return numbered_folders(folder, _NAME)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    complete = (path for path in reversed(list_checkpoints(folder)) if read_manifest(path) is not None)
    return next(complete, None)


def rotate(folder: Path, keep: int) -> None:
    """Deletes the oldest checkpoints beyond the newest `keep`."""
    delete_folders(list_checkpoints(folder)[:-keep])


def delete_folders(folders: Iterable[Path]) -> None:
    """Deletes folders with a manifest. It goes first: a deletion that is interrupted leaves a folder that counts as torn."""
    for path in folders:
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)


def check_settings(checkpoint: Path, written: Mapping[str, object], current: Mapping[str, object]) -> None:
    """Raises a `ValueError` that names every setting in which a checkpoint and this run differ."""
    differing = [name for name in current if written.get(name) != current[name]]
    if differing:
        pairs = "; ".join(f"{name}: {written.get(name)!r} there, {current[name]!r} here" for name in differing)
        raise ValueError(f"{checkpoint} was written by another run ({pairs})")
