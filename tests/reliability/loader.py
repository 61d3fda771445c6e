# SPDX-License-Identifier: Apache-2.0
"""What the table of loaders says about each: how to make a good file, how to load it, and what its format promises."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Loader:
    """
    One loader and one file that it reads.

    Args:
        name (`str`): of the case.
        kind (`str`): format of the file; says which corruptions apply.
        write (`Callable[[Path], Path]`): makes a good file in an empty folder.
        load (`Callable[[Path], Any]`): reads it.
        optional (`tuple[str, ...]`, *optional*): entries that may be missing.
        errors (`tuple[type[Exception], ...]`, *optional*): what may be raised.
        names_file (`bool`, *optional*, defaults to `True`): whether the message names file or folder.
        cuts (`bool`, *optional*, defaults to `True`): whether a file cut short is always seen.
        shapes (`bool`, *optional*, defaults to `True`): whether tensors of another shape are always seen.
        slow (`bool`, *optional*, defaults to `False`): a load takes long enough to be left to `-m slow`.
    """

    name: str
    kind: str
    write: Callable[[Path], Path]
    load: Callable[[Path], Any]
    optional: tuple[str, ...] = ()
    errors: tuple[type[Exception], ...] = (ValueError, OSError)
    names_file: bool = True
    cuts: bool = True
    shapes: bool = True
    slow: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Corruption:
    """
    A damaged file.

    Args:
        name (`str`): what was done.
        content (`bytes`): of the file.
        refused (`bool`): whether it must be refused; otherwise a load without an error will do.
    """

    name: str
    content: bytes
    refused: bool
