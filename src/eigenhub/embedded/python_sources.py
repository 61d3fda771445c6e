# SPDX-License-Identifier: Apache-2.0
"""Real text without a download: the source files of the Python standard library."""

import sysconfig
from pathlib import Path

from datasets import Dataset, DatasetDict

from eigenhub.training.corpus import hold_out


def load_python_sources() -> DatasetDict:
    """
    The top-level modules of the running Python's standard library, one row per file, in the order of their names.

    Packages are left out: they bring test suites, bundled wheels and tables of encodings. So is the file with the
    settings of the build, which differs from machine to machine. What remains is some 4.7 MB, the same for every
    installation of one Python version.

    Returns:
        `DatasetDict` with the splits `train` and `test` (every 20th file) and the columns `name` and `text`.

    Example:

    ```python
    >>> from eigenhub.embedded.python_sources import load_python_sources

    >>> "argparse.py" in load_python_sources()["train"]["name"]
    True
    ```
    """
    files = source_files()
    # Text mode: line ends become "\n" whatever the installer made of them.
    texts = [path.read_text(encoding="utf-8") for path in files]
    return hold_out(Dataset.from_dict({"name": [path.name for path in files], "text": texts}), "text")


def source_files() -> list[Path]:
    """The files behind [`load_python_sources`]."""
    folder = Path(sysconfig.get_path("stdlib"))
    # Sorted by code point, not by a file system's or locale's order.
    files = sorted(folder.glob("*.py"), key=lambda path: path.name)
    files = [path for path in files if not path.name.startswith("_sysconfigdata")]
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no source files: this Python was installed without its library's text"
        )
    return files
