# SPDX-License-Identifier: Apache-2.0
"""Text and a language model by name, where the name `embedded` stands for generated text and the small Llama."""

from pathlib import Path

from datasets import Dataset

from eigenhub.embedded.arithmetic import load_problems
from eigenhub.embedded.llama import pretrained_llama_folder
from eigenhub.training.options import EMBEDDED
from eigenhub.training.text_source import TextColumns, load_text_dataset


def text_rows(source: str, split: str = "train", config: str | None = None) -> Dataset:
    """[`load_text_dataset`]; `embedded` gives generated subtraction problems."""
    if source == EMBEDDED:
        return load_problems("subtract")[split]
    return load_text_dataset(source, split, config)


def language_model(name: str, source: str, rows: Dataset, columns: TextColumns) -> str | Path:
    """
    What to pass to `from_pretrained` for a model name.

    Args:
        name (`str`): Hub id or folder, returned as it is, or `embedded`.
        source (`str`):
            Data set that the model is to be trained on. The embedded model for the `embedded` one has seen sums only;
            for any other it is pretrained on the prompts of `rows` without their responses, or on plain text.
        rows (`Dataset`): rows of that data set.
        columns (`TextColumns`): columns that hold the text.
    """
    if name != EMBEDDED:
        return name
    if source == EMBEDDED:
        return pretrained_llama_folder()
    column = columns.prompt or columns.text
    return pretrained_llama_folder([row[column] for row in rows])
