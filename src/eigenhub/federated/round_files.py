# SPDX-License-Identifier: Apache-2.0
"""The folders `round_0001`, `round_0002`, ... of a run: written under another name and renamed when complete."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from eigenhub.files import lock_folder, replace_folder
from eigenhub.training.checkpoint_files import delete_folders, numbered_folders, read_manifest, write_manifest


_NAME = re.compile(r"round_(\d+)")


def round_folder(output_dir: Path, round: int) -> Path:
    """Where the state after a round goes.

    Args:
        output_dir (`Path`): of the run.
        round (`int`): from 1.
    """
    return output_dir / f"round_{round:04d}"


def list_rounds(output_dir: Path) -> list[Path]:
    """Folders that bear a round's name, by round; they need not be complete.

    Args:
        output_dir (`Path`): of the run.
    """
    return numbered_folders(output_dir, _NAME)


def latest_round(output_dir: Path) -> Path | None:
    """The newest complete round, or `None`.

    Args:
        output_dir (`Path`): of the run.
    """
    return next((path for path in reversed(list_rounds(output_dir)) if read_manifest(path) is not None), None)


def write_round(output_dir: Path, round: int, write: Callable[[Path], None], keep: int) -> Path:
    """Write a round's folder in one step and delete the oldest ones beyond `keep`, while no other process does.

    Args:
        output_dir (`Path`): of the run.
        round (`int`): from 1.
        write (`Callable`): fills the folder that it is given.
        keep (`int`): folders that stay, at least 1.
    """
    final = round_folder(output_dir, round)
    workplace = final.with_name(f"{final.name}.tmp")
    lock = lock_folder(output_dir)
    try:
        for left in output_dir.glob("round_*.tmp"):  # by a process that died
            shutil.rmtree(left)
        workplace.mkdir()
        write(workplace)
        write_manifest(workplace, round, {})
        replace_folder(workplace, final)
        delete_folders(list_rounds(output_dir)[:-keep])
    finally:
        lock.release()
    return final
