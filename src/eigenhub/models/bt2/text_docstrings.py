# SPDX-License-Identifier: Apache-2.0
"""Real questions and answers without a download: docstrings of installed packages, or of Python itself."""

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


#: Stands for the modules of Python's own library.
STANDARD_LIBRARY = "python"
FIRST_SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)", re.DOTALL)
WORDS_IN_QUERY = (4, 40)
WORDS_IN_DOCUMENT = (8, 60)


class TextPair(NamedTuple):
    """
    A short text and a longer one that answers it.

    Args:
        query (`str`): the first sentence of a docstring.
        document (`str`): what follows, cut at 60 words.
    """

    query: str
    document: str


def docstring_pairs(packages: Sequence[str] = (STANDARD_LIBRARY,), limit: int | None = None) -> list[TextPair]:
    """
    First sentence and rest of every docstring that has both; each sentence and each rest once.

    Args:
        packages (`Sequence[str]`, *optional*, defaults to `("python",)`): installed packages, by import name; `python`
            is the standard library. Files are read, nothing is imported.
        limit (`int`, *optional*): number of pairs, spread evenly over all.

    Returns:
        `list[TextPair]`, in the order of packages, files and lines.

    Example:

    ```python
    >>> from eigenhub.models.bt2.text_docstrings import docstring_pairs
    >>> len(docstring_pairs(limit=100))
    100
    ```
    """
    queries: set[str] = set()
    documents: set[str] = set()
    pairs = []
    for package in packages:
        for docstring in _docstrings(_folder(package), package == STANDARD_LIBRARY):
            pair = _split(docstring)
            if pair and pair.query not in queries and pair.document not in documents:
                queries.add(pair.query)
                documents.add(pair.document)
                pairs.append(pair)
    if limit is None or limit >= len(pairs):
        return pairs
    return [pairs[i * len(pairs) // limit] for i in range(limit)]


def _folder(package: str) -> Path:
    if package == STANDARD_LIBRARY:
        return Path(sysconfig.get_path("stdlib"))
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"`packages` must name installed packages or {STANDARD_LIBRARY!r}, got {package!r}")
    return Path(next(iter(spec.submodule_search_locations)))


def _docstrings(folder: Path, is_standard_library: bool) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py"), key=str):
        parts = path.relative_to(folder).parts
        if "site-packages" in parts or any(part in ("test", "tests") or part.startswith("test_") for part in parts):
            continue
        if is_standard_library and parts[0] in ("idlelib", "lib2to3", "pydoc_data", "ensurepip"):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):  # old files have strings with invalid escapes
                tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        yield from _docstrings_below(tree)


def _docstrings_below(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    if docstring := ast.get_docstring(node):
        yield docstring
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings_below(child)


def _split(docstring: str) -> TextPair | None:
    head, _, tail = docstring.partition("\n\n")
    found = FIRST_SENTENCE.match(head)
    query = " ".join((found.group(1) if found else head).split())
    rest = (head[found.end() :] if found else "") + " " + tail
    document = " ".join(rest.split()[: WORDS_IN_DOCUMENT[1]])
    enough = WORDS_IN_QUERY[0] <= len(query.split()) <= WORDS_IN_QUERY[1]
    return TextPair(query, document) if enough and len(document.split()) >= WORDS_IN_DOCUMENT[0] else None
