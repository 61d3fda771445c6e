# SPDX-License-Identifier: Apache-2.0
"""Texts to fit and to measure on: from a file, from the Hub, or from docstrings on this machine."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eigenhub.files.tables import check_header, naming_source
from eigenhub.models.bt2.retrieval_relevance import Relevance
from eigenhub.models.bt2.text_docstrings import docstring_pairs


DOCSTRINGS = "docstrings"
LOADERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".txt": "text"}


@dataclass(frozen=True)
class TextPairs:
    """
    Texts, or queries with a document each.

    Args:
        queries (`list[str]`): texts or queries.
        documents (`list[str]`, *optional*): document i answers query i; several queries may share one.
    """

    queries: list[str]
    documents: list[str] | None = None

    def __post_init__(self) -> None:
        if not self.queries:
            raise ValueError("`queries` must hold at least one text")
        if self.documents is not None and len(self.documents) != len(self.queries):
            raise ValueError(
                f"`documents` must be as many as `queries`, {len(self.queries)}, got {len(self.documents)}"
            )

    def __len__(self) -> int:
        return len(self.queries)

    def relevance(self) -> Relevance:
        """Every row whose document is the query's own, or has the same text, answers it."""
        if self.documents is None:
            raise ValueError("`documents` are needed to measure how well they are found")
        return Relevance.of_labels(self.documents, self.documents)


def read_pairs(
    source: str,
    query_column: str | None = None,
    document_column: str | None = None,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
) -> TextPairs:
    """
    Read texts.

    Args:
        source (`str`): a file (`.txt` with one text per line; `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` with
            columns, which the first line of the former two names), a data set on the Hub, or `docstrings` of Python's own library; `docstrings:numpy,scipy` for those
            of other packages.
        query_column (`str`, *optional*): column of the texts or queries; by default the first one that holds text.
        document_column (`str`, *optional*): column of their documents; by default the second one that holds text.
        split (`str`, *optional*, defaults to `"train"`): of a data set on the Hub.
        limit (`int`, *optional*): largest number of rows, drawn at random.
        seed (`int`, *optional*, defaults to 0): of the draw.
    """
    if source.partition(":")[0] == DOCSTRINGS:
        packages = source.partition(":")[2]
        found = docstring_pairs(packages.split(",")) if packages else docstring_pairs()
        pairs = TextPairs([pair.query for pair in found], [pair.document for pair in found])
    else:
        pairs = _from_table(source, query_column, document_column, split)
    if limit is None or limit >= len(pairs):
        return pairs
    rows = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:limit]).tolist()
    documents = None if pairs.documents is None else [pairs.documents[row] for row in rows]
    return TextPairs([pairs.queries[row] for row in rows], documents)


def _from_table(source: str, query_column: str | None, document_column: str | None, split: str) -> TextPairs:
    from datasets import load_dataset

    path = Path(source)
    if path.suffix in LOADERS:
        if not path.is_file():
            raise FileNotFoundError(f"{source} is not a file")
        options = {"delimiter": "\t"} if path.suffix == ".tsv" else {}
        with naming_source(source):
            table = load_dataset(LOADERS[path.suffix], data_files=source, split="train", **options)
            check_header(path, table)
    else:
        with naming_source(source):
            table = load_dataset(source, split=split)
    text_columns = [
        name for name, kind in table.features.items() if getattr(kind, "dtype", None) in ("string", "large_string")
    ]
    for name, column in (("query_column", query_column), ("document_column", document_column)):
        if column is not None and column not in text_columns:
            raise ValueError(
                f"`{name}` must be a column of text in {source}, one of {', '.join(text_columns)}; got {column!r}"
            )
    if not text_columns:
        raise ValueError(f"{source} has no column of text")
    query = query_column or text_columns[0]
    others = [name for name in text_columns if name != query]
    document = document_column or (others[0] if others else None)
    rows = [row for row in zip(table[query], table[document or query], strict=True) if row[0] and row[1]]
    return TextPairs([row[0] for row in rows], [row[1] for row in rows] if document else None)
