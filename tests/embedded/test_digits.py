# SPDX-License-Identifier: Apache-2.0
"""The embedded digits: fixed split, fixed range, turns that are turns."""

import sys

import pytest
import torch

from eigenhub.embedded.digits import as_rows, load_digits


def test_shapes_range_and_split() -> None:
    splits = load_digits()
    assert {name: len(split) for name, split in splits.items()} == {"train": 1200, "test": 597}
    columns = splits["train"][:]
    assert columns["pixel_values"].shape == (1200, 1, 8, 8) and columns["pixel_values"].dtype == torch.float32
    assert columns["pixel_values"].min() == -1 and columns["pixel_values"].max() == 1
    assert set(columns["labels"].tolist()) == set(range(10))


def test_split_is_the_documented_permutation() -> None:
    from numpy.random import RandomState
    from sklearn.datasets import load_digits as read

    data, order = read(), RandomState(0).permutation(1797)
    splits = load_digits()
    labels = torch.cat([splits["train"][:]["labels"], splits["test"][:]["labels"]])
    assert labels.tolist() == data.target[order].tolist()
    first = splits["train"][0]["pixel_values"][0]
    assert torch.equal(first, torch.tensor(data.images[order[0]] / 8 - 1, dtype=torch.float32))


def test_quarter_turns() -> None:
    upright, turned = load_digits()["test"][:], load_digits(1)["test"][:]
    assert torch.equal(turned["labels"], upright["labels"])
    assert torch.equal(turned["pixel_values"], torch.rot90(upright["pixel_values"], 1, dims=(2, 3)))
    assert torch.equal(load_digits(5)["test"][:]["pixel_values"], turned["pixel_values"])


def test_rows_in_memory_are_the_table() -> None:
    split = load_digits()["test"]
    rows = as_rows(split)
    assert len(rows) == len(split)
    assert (
        torch.equal(rows[17]["pixel_values"], split[17]["pixel_values"]) and rows[17]["labels"] == split[17]["labels"]
    )


def test_missing_scikit_learn_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"eigenhub\[demo\]"):
        load_digits()
