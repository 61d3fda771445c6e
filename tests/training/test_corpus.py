# SPDX-License-Identifier: Apache-2.0
"""What is held out, is held out: every 20th row, or the end of the text, and nothing is lost."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, IterableDataset

from eigenhub.training.corpus import hold_out, load_corpus
from eigenhub.training.text_source import TextColumns


def test_rows() -> None:
    parts = hold_out(Dataset.from_dict({"text": [str(i) for i in range(45)]}), "text")
    assert list(parts["test"]["text"]) == ["19", "39"]
    assert list(parts["train"]["text"]) == [str(i) for i in range(45) if i not in (19, 39)]


def test_ends_of_few_texts() -> None:
    texts = ["a" * 95 + "b" * 5, "c" * 19 + "d"]
    parts = hold_out(Dataset.from_dict({"text": texts}), "text")
    assert list(parts["test"]["text"]) == ["b" * 5, "d"]
    assert [a + b for a, b in zip(parts["train"]["text"], parts["test"]["text"], strict=True)] == texts


def test_few_prompts_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="name a held-out split"):
        hold_out(Dataset.from_dict({"prompt": ["a"] * 19, "response": ["b"] * 19}))


def test_text_file_is_one_document(tmp_path: Path) -> None:
    text = "".join(f"line {i}\n" for i in range(100))
    (tmp_path / "input.txt").write_text(text)
    for source in (tmp_path, tmp_path / "input.txt"):
        corpus = load_corpus(str(source))
        assert corpus.columns == TextColumns(text="text")
        assert corpus.train[0]["text"] + corpus.held_out[0]["text"] == text


def test_folder_of_text_files_by_split(tmp_path: Path) -> None:
    for name, text in {"train.txt": "one\ntwo\n", "test.txt": "three\n", "README.md": "no data"}.items():
        (tmp_path / name).write_text(text)
    corpus = load_corpus(str(tmp_path), held_out=(str(tmp_path), "test", None))
    assert (corpus.train["text"][:], corpus.held_out["text"][:]) == (["one\ntwo\n"], ["three\n"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "validation"):
        rows = [{"text": f"{split} {i}"} for i in range(3)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("streaming", [False, True])
def test_named_held_out(folder: Path, streaming: bool) -> None:
    corpus = load_corpus(str(folder), held_out=(str(folder), "validation", None), streaming=streaming)
    assert isinstance(corpus.train, IterableDataset if streaming else Dataset)
    assert [row["text"] for row in corpus.train] == ["train 0", "train 1", "train 2"]
    assert [row["text"] for row in corpus.held_out] == ["validation 0", "validation 1", "validation 2"]


def test_a_stream_cannot_be_cut(folder: Path) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        load_corpus(str(folder), streaming=True)
