# SPDX-License-Identifier: Apache-2.0
"""Writers that leave either the new content or the old one: a full disk, a kill or another process cannot mix them."""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from torch import Tensor


#: A folder that is being replaced stands under its own name and this for the moment between two renames.
REPLACED = ".old"


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A draft beside a file, which takes the place of the file when the block has ended well.

    The draft has a name of its own, so that two processes do not write into one, and ends in `.tmp`. Several drafts in one
    `with` are renamed one right after the other, once all are written.

    Args:
        path (`str`): the file; its folder must exist.
    """
    path = Path(path)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, whole or not at all.

    Args:
        path (`str`): the file.
        text (`str`): its content.
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all, with the permissions that other files get.

    Args:
        path (`str`): the file.
        tensors (`Mapping[str, "Tensor"]`): by name, on any device and with any strides.
        metadata (`Mapping[str, str]`, *optional*): of the file.
    """
    from safetensors.torch import save_file

    with replacing(path) as draft:
        draft.touch()
        mode = draft.stat().st_mode
        ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(ready, draft, metadata=None if metadata is None else dict(metadata))
        draft.chmod(mode)  # safetensors lets nobody but the owner read what it writes


def append_line(path: str | os.PathLike, line: str) -> None:
    """Add one line to a text file; half a line that a killed process left at its end goes, half of this one never stays.

    Args:
        path (`str`): the file, made if necessary.
        line (`str`): without the line break at its end.
    """
    content = f"{line}\n".encode()
    with open(path, "a+b", buffering=0) as file:
        end = _end_of_last_line(file)
        file.truncate(end)
        try:
            view = memoryview(content)
            while len(view):
                view = view[file.write(view) :]
        except BaseException:
            file.truncate(end)
            raise


def replace_folder(workplace: Path, final: Path) -> None:
    """Put a complete folder in the place of another one, if there is one; see [`recovered`] for a kill in between.

    Args:
        workplace (`Path`): the complete folder, on the same file system.
        final (`Path`): the place.
    """
    before = _before(final)
    if final.exists():
        shutil.rmtree(before, ignore_errors=True)
        os.replace(final, before)
    os.replace(workplace, final)
    shutil.rmtree(before, ignore_errors=True)


def recovered(final: Path) -> Path:
    """Where the newest whole content of a place is: a kill between the two renames leaves it under the other name.

    Args:
        final (`Path`): the place.
    """
    return final if final.exists() or not _before(final).exists() else _before(final)


def _before(final: Path) -> Path:
    return final.with_name(f"{final.name}{REPLACED}")


def _end_of_last_line(file: object, block: int = 1 << 16) -> int:
    position = file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]
    while position:
        begin = max(0, position - block)
        file.seek(begin)  # type: ignore[attr-defined]
        found = file.read(position - begin).rfind(b"\n")  # type: ignore[attr-defined]
        if found >= 0:
            return begin + found + 1
        position = begin
    return 0
