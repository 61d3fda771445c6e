# SPDX-License-Identifier: Apache-2.0
"""Local data in every format, and columns that are named or guessed."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from eigenhub.training.text_source import TextColumns, check_source, find_columns, is_local, load_text_dataset


ROWS = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "test.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "rows.json").write_text(json.dumps(ROWS))
    Dataset.from_list(ROWS).to_parquet(other / "rows.parquet")
    (other / "rows.csv").write_text("question,answer\n" + "".join(f"q{i},a{i}\n" for i in range(5)))
    return tmp_path


@pytest.mark.parametrize("name", ["train.jsonl", "other/rows.json", "other/rows.parquet", "other/rows.csv"])
def test_files(folder: Path, name: str) -> None:
    rows = load_text_dataset(str(folder / name))
    assert rows.to_list() == ROWS
    assert len(load_text_dataset(str(folder / name), "train[:2]")) == 2


def test_folder_with_splits(folder: Path) -> None:
    assert load_text_dataset(str(folder), "train").to_list() == ROWS
    assert load_text_dataset(str(folder), "test").to_list() == ROWS[:1]


def test_plain_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one\ntwo\n")
    assert load_text_dataset(str(tmp_path / "text.txt"))["text"] == ["one", "two"]


def test_unknown_split_names_the_known(folder: Path) -> None:
    with pytest.raises(ValueError, match="validation"):
        load_text_dataset(str(folder), "validation")


def test_what_is_local(folder: Path) -> None:
    assert all(map(is_local, ("./x", "../x", "/x", "~/x", "x.jsonl", "x.parquet", str(folder))))
    assert not any(map(is_local, ("openai/gsm8k", "squad")))


def test_bad_sources(tmp_path: Path) -> None:
    check_source("openai/gsm8k")
    with pytest.raises(FileNotFoundError, match="no such data file or folder: missing.jsonl"):
        check_source("missing.jsonl")
    (tmp_path / "data.xml").touch()
    with pytest.raises(ValueError, match="unknown kind of data file '.xml', expected one of .json, .jsonl"):
        check_source(str(tmp_path / "data.xml"))


@pytest.mark.parametrize(
    ("available", "named", "found"),
    [
        (["question", "answer"], {}, TextColumns("question", "answer")),
        (["type", "query", "response"], {}, TextColumns("query", "response")),
        (["prompt", "completion"], {}, TextColumns("prompt", "completion")),
        (["id", "text"], {}, TextColumns(text="text")),
        (["question", "answer"], {"text": "question"}, TextColumns(text="question")),
        (["a", "b"], {"prompt": "b", "response": "a"}, TextColumns("b", "a")),
    ],
)
def test_columns(available: list[str], named: dict[str, str], found: TextColumns) -> None:
    assert find_columns(available, **named) == found


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, r"cannot tell which columns to learn from; name them \(columns: a, b\)"),
        ({"prompt": "a"}, "together"),
        ({"prompt": "a", "response": "b", "text": "a"}, "not both"),
        ({"prompt": "a", "response": "c"}, "no column 'c'; its columns are a, b"),
        ({"text": "t"}, "no column 't'"),
    ],
)
def test_bad_columns(named: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_columns(["a", "b"], **named)
