# SPDX-License-Identifier: Apache-2.0
"""Text to train a language model on, and text held out from it: by names of splits, or cut by a fixed rule."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eigenhub.training.text_source import TextColumns, find_columns, load_text_dataset


if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


HELD_OUT_EVERY = 20


@dataclass(frozen=True)
class Corpus:
    """
    Rows of text.

    Args:
        train (`Dataset` or `IterableDataset`): what to learn from.
        held_out (`Dataset` or `IterableDataset`): what the loss is measured on.
        columns (`TextColumns`): where the text is, in both.
    """

    train: Any
    held_out: Any
    columns: TextColumns


def load_corpus(
    source: str,
    split: str = "train",
    config: str | None = None,
    held_out: tuple[str, str, str | None] | None = None,
    named: tuple[str | None, str | None, str | None] = (None, None, None),
    streaming: bool = False,
) -> Corpus:
    """
    A corpus from the Hub or from local files; a text file is one document.

    Args:
        source (`str`): Hub id, local folder, or one json, jsonl, parquet, csv or txt file.
        split (`str`, *optional*, defaults to `"train"`): split to learn from.
        config (`str`, *optional*): configuration of a data set on the Hub.
        held_out (`tuple[str, str, str | None]`, *optional*):
            Source, split and configuration of the held-out text. By default it is cut from the training split, see
            [`hold_out`]; a streamed one cannot be cut.
        named (`tuple`, *optional*): prompt, response and text column, where their names cannot be guessed.
        streaming (`bool`, *optional*, defaults to `False`): read while training instead of fetching everything first.
    """
    rows = load_text_dataset(source, split, config, streaming=streaming, whole_files=True)
    columns = find_columns(rows.column_names or list(next(iter(rows))), *named)
    if held_out is not None:
        other = load_text_dataset(*held_out, streaming=streaming, whole_files=True)
        return Corpus(rows, other, columns)
    if streaming:
        raise ValueError("a streamed data set cannot be cut: name a split or a data set to hold out")
    parts = hold_out(rows, columns.text)
    return Corpus(parts["train"], parts["test"], columns)


def hold_out(rows: "Dataset", text_column: str | None = None) -> "DatasetDict":
    """
    Cuts a data set in two, the same way every time: `train`, and `test` with a twentieth of it.

    Every 20th row is held out. Plain text in fewer than 20 rows (one file, say) loses the last twentieth of its
    characters instead, row by row.

    Args:
        rows (`Dataset`): what to cut.
        text_column (`str`, *optional*): column of plain text; rows without one can only be held out whole.
    """
    from datasets import DatasetDict

    if len(rows) >= HELD_OUT_EVERY:
        test = range(HELD_OUT_EVERY - 1, len(rows), HELD_OUT_EVERY)
        train = [index for index in range(len(rows)) if index % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
        return DatasetDict(train=rows.select(train), test=rows.select(test))
    if text_column is None:
        raise ValueError(f"{len(rows)} rows are too few to hold out every {HELD_OUT_EVERY}th: name a held-out split")

    def part(begin: int, end: int) -> "Dataset":
        def cut(row: dict[str, str]) -> dict[str, str]:
            text = row[text_column]
            return {text_column: text[len(text) * begin // HELD_OUT_EVERY : len(text) * end // HELD_OUT_EVERY]}

        return rows.map(cut, desc="cutting the text")

    return DatasetDict(train=part(0, HELD_OUT_EVERY - 1), test=part(HELD_OUT_EVERY - 1, HELD_OUT_EVERY))
