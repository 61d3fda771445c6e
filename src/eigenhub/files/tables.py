# SPDX-License-Identifier: Apache-2.0
"""Data sets that are read through Datasets: errors that name them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eigenhub.files.reading import naming


if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


@contextmanager
def naming_source(source: str) -> Iterator[None]:
    """What Datasets raises about the content of files in the block becomes a `ValueError` that names the data set.

    Datasets itself wraps the parser's error, names no file, and lets an empty file through as a `StopIteration`.

    Args:
        source (`str`): Hub id, folder or file.
    """
    from datasets.exceptions import DatasetGenerationError

    with naming(source):
        try:
            yield
        except DatasetGenerationError as error:
            if getattr(error.__cause__, "errno", None):  # of the system: a full disk, not the data
                raise error.__cause__ from error
            raise ValueError(f"cannot be read as a data set: {error.__cause__ or error}") from error
        except StopIteration as error:
            raise ValueError("is empty") from error
        except OSError as error:
            if type(error) is OSError and error.errno is None:  # Arrow's word for what it cannot decode
                raise ValueError(f"cannot be read as a data set: {error}") from error
            raise


def check_header(path: Path, rows: "Dataset | IterableDataset") -> None:
    """Raises for a table of text whose first row is longer than its header: its values would move to other columns.

    Args:
        path (`Path`): a data file; of those without a header nothing is asked.
        rows (`Dataset`): read from it.
    """
    if path.suffix in (".csv", ".tsv") and any(name.startswith("__index_level_") for name in rows.column_names or ()):
        raise ValueError("the first row has more values than the header has names")
