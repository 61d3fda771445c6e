# SPDX-License-Identifier: Apache-2.0
"""The folders `round_0001`, `round_0002`, ... of a run: written under another name and renamed when complete."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from eigenhub.training.checkpoint_files import MANIFEST, read_manifest, write_manifest


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
    found = [(int(match[1]), path) for path in output_dir.glob("round_*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def latest_round(output_dir: Path) -> Path | None:
    """The newest complete round, or `None`.

    Args:
        output_dir (`Path`): of the run.
    """
    return next((path for path in reversed(list_rounds(output_dir)) if read_manifest(path) is not None), None)


def write_round(output_dir: Path, round: int, write: Callable[[Path], None], keep: int) -> Path:
    """Write a round's folder in one step and delete the oldest ones beyond `keep`.

    Args:
        output_dir (`Path`): of the run.
        round (`int`): from 1.
        write (`Callable`): fills the folder that it is given.
        keep (`int`): folders that stay, at least 1.
    """
    final = round_folder(output_dir, round)
    workplace = final.with_name(f"{final.name}.tmp")
    shutil.rmtree(workplace, ignore_errors=True)
    workplace.mkdir(parents=True)
    write(workplace)
    write_manifest(workplace, round, {})
    shutil.rmtree(final, ignore_errors=True)
    os.replace(workplace, final)
    for path in list_rounds(output_dir)[:-keep]:
        # The manifest goes first: a deletion that is interrupted leaves a folder that counts as torn.
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
    return final
