# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint folders are complete: a manifest of file sizes, the latest valid one, rotation."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path


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
        manifest = json.loads((folder / MANIFEST).read_text())
        complete = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if complete else None


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders that bear a checkpoint's name, by step; temporary ones do not."""
    found = [(int(match[1]), path) for path in folder.glob("step_*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    complete = (path for path in reversed(list_checkpoints(folder)) if read_manifest(path) is not None)
    return next(complete, None)


def rotate(folder: Path, keep: int) -> None:
    """Deletes the oldest checkpoints beyond the newest `keep`."""
    for path in list_checkpoints(folder)[:-keep]:
        # The manifest goes first: a deletion that is interrupted leaves a folder that counts as torn.
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)


def check_settings(checkpoint: Path, written: Mapping[str, object], current: Mapping[str, object]) -> None:
    """Raises a `ValueError` that names every setting in which a checkpoint and this run differ."""
    differing = [name for name in current if written.get(name) != current[name]]
    if differing:
        pairs = "; ".join(f"{name}: {written.get(name)!r} there, {current[name]!r} here" for name in differing)
        raise ValueError(f"{checkpoint} was written by another run ({pairs})")
