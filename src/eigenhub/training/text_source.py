# SPDX-License-Identifier: Apache-2.0
"""Text data sets by Hub id or local path, and which of their columns hold what."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eigenhub.files.tables import check_header, naming_source


if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv", ".txt": "text"}
#: Prompt and response columns of well-known sets, tried in this order when none are named.
KNOWN_PAIRS = (("question", "answer"), ("query", "response"), ("prompt", "completion"), ("prompt", "response"))


def is_local(source: str) -> bool:
    """Whether a data set is named by a path: it exists, begins like a path, or ends like a data file."""
    begins = source.startswith((".", "~", "/", os.sep))
    return begins or Path(source).suffix in BUILDERS or Path(source).exists()


def check_source(source: str) -> None:
    """Raises at once, before anything is loaded, if a local data set is missing or of an unknown kind."""
    if not is_local(source):
        return
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no such data file or folder: {source}")
    if path.is_file() and path.suffix not in BUILDERS:
        raise ValueError(f"{source}: unknown kind of data file {path.suffix!r}, expected one of {', '.join(BUILDERS)}")


def load_text_dataset(
    source: str, split: str = "train", config: str | None = None, streaming: bool = False, whole_files: bool = False
) -> "Dataset | IterableDataset":
    """
    One split of a data set.

    Args:
        source (`str`): Hub id, local folder with data files, or one json, jsonl, parquet, csv or txt file.
        split (`str`, *optional*, defaults to `"train"`):
            Name of the split, with an optional slice: `train[:1000]`. A single file is its split `train`.
        config (`str`, *optional*): configuration of a data set on the Hub.
        streaming (`bool`, *optional*, defaults to `False`):
            Gives an `IterableDataset` that reads as it goes; without slices.
        whole_files (`bool`, *optional*, defaults to `False`): one row per text file instead of one per line.

    Raises:
        ValueError: what is there cannot be read; when streaming, only what is seen before the first row.
    """
    from datasets import load_dataset

    check_source(source)
    with naming_source(source):
        if not is_local(source):
            return load_dataset(source, config, split=split, streaming=streaming)
        path = Path(source).expanduser()
        options = {"sample_by": "document"} if whole_files and _is_plain_text(path) else {}
        if path.is_dir():
            return load_dataset(str(path), split=split, streaming=streaming, **options)
        rows = load_dataset(BUILDERS[path.suffix], data_files=str(path), split=split, streaming=streaming, **options)
        check_header(path, rows)
        return rows


def _is_plain_text(path: Path) -> bool:
    files = path.iterdir() if path.is_dir() else [path]
    return {BUILDERS[file.suffix] for file in files if file.suffix in BUILDERS} == {"text"}


@dataclass(frozen=True)
class TextColumns:
    """The columns to learn from: a prompt with its response, or plain text (then `prompt` and `response` are None)."""

    prompt: str | None = None
    response: str | None = None
    text: str | None = None


def find_columns(
    available: Sequence[str], prompt: str | None = None, response: str | None = None, text: str | None = None
) -> TextColumns:
    """
    Columns as named, or else guessed from well-known names; a `ValueError` lists what there is.

    Args:
        available (`Sequence[str]`): column names of the data set.
        prompt (`str`, *optional*): named prompt column; needs `response` too.
        response (`str`, *optional*): named response column.
        text (`str`, *optional*): named column of plain text.
    """
    if (prompt is None) != (response is None):
        raise ValueError("name the prompt column and the response column together")
    if prompt is not None and text is not None:
        raise ValueError("name either a prompt and a response column or a text column, not both")
    if missing := [name for name in (prompt, response, text) if name is not None and name not in available]:
        raise ValueError(f"the data has no column {missing[0]!r}; its columns are {', '.join(available)}")
    if prompt is not None or text is not None:
        return TextColumns(prompt, response, text)
    for pair in KNOWN_PAIRS:
        if set(pair) <= set(available):
            return TextColumns(*pair)
    if "text" in available:
        return TextColumns(text="text")
    raise ValueError(f"cannot tell which columns to learn from; name them (columns: {', '.join(available)})")
