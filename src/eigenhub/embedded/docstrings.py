# SPDX-License-Identifier: Apache-2.0
"""Questions and answers from the docstrings of Python's library, as a dataset."""

from collections.abc import Sequence

from datasets import Dataset, DatasetDict

from eigenhub.models.bt2.text_docstrings import STANDARD_LIBRARY, docstring_pairs
from eigenhub.training.corpus import hold_out


def load_docstrings(packages: Sequence[str] = (STANDARD_LIBRARY,)) -> DatasetDict:
    """
    The pairs of [`~eigenhub.models.bt2.docstring_pairs`]; those of the standard library take some ten seconds.

    Args:
        packages (`Sequence[str]`, *optional*, defaults to `("python",)`): packages by import name; `python` is the running
            Python's standard library.

    Returns:
        `DatasetDict` with the splits `train` and `test` (every 20th pair) and the columns `query` and `document`.

    Example:

    ```python
    >>> from eigenhub.embedded.docstrings import load_docstrings

    >>> load_docstrings(["email"])["test"].column_names
    ['query', 'document']
    ```
    """
    return hold_out(Dataset.from_list([pair._asdict() for pair in docstring_pairs(packages)]))
