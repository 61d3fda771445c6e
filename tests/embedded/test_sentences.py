# SPDX-License-Identifier: Apache-2.0
"""Labelled sentences from tab-separated files."""

from pathlib import Path

import pytest

from eigenhub.embedded.sentences import load_sentences


def test_splits_columns_and_classes(tmp_path: Path) -> None:
    # quotes, a tab and a line separator inside of a sentence are text
    (tmp_path / "train.tsv").write_text('the "best" one\t1\nin\ttwo parts\t0\n\u2028odd\t0\n', encoding="utf-8")
    (tmp_path / "test.tsv").write_text("no end of line\t2", encoding="utf-8")
    splits = load_sentences(tmp_path)
    assert list(splits) == ["train", "test"]
    assert splits["train"]["sentence"][:] == ['the "best" one', "in\ttwo parts", "\u2028odd"]
    assert splits["train"]["labels"][:] == [1, 0, 0]
    assert splits["train"].features == splits["test"].features
    assert splits["train"].features["labels"].names == ["0", "1", "2"]


@pytest.mark.parametrize("line", ["no label", "half a label\t0.5", "\t1", "negative\t-1", "foreign digit\t\u0663"])
def test_other_lines_are_refused_by_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "dev.tsv").write_text(f"fine\t0\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"dev\.tsv, line 2: expected a sentence"):
        load_sentences(tmp_path)


def test_empty_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none of train\.tsv, dev\.tsv, test\.tsv"):
        load_sentences(tmp_path)
    (tmp_path / "train.tsv").touch()
    with pytest.raises(ValueError, match="line 1"):
        load_sentences(tmp_path)
