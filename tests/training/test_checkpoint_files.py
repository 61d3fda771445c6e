# SPDX-License-Identifier: Apache-2.0
"""Torn checkpoints are seen, the newest whole one is found, the oldest go."""

from pathlib import Path

import pytest

from eigenhub.training.checkpoint_files import (
    MANIFEST,
    check_settings,
    checkpoint_name,
    latest_checkpoint,
    list_checkpoints,
    read_manifest,
    rotate,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (5, 10, 15):
        path = tmp_path / checkpoint_name(step)
        (path / "shards").mkdir(parents=True)
        (path / "model.bin").write_bytes(b"weights")
        (path / "shards" / "0.bin").write_bytes(b"shard")
        write_manifest(path, step, {"lr": 0.1})
    (tmp_path / "step_000020.tmp").mkdir()
    (tmp_path / "step_by_step").mkdir()
    return tmp_path


def test_latest(folder: Path) -> None:
    assert [path.name for path in list_checkpoints(folder)] == ["step_000005", "step_000010", "step_000015"]
    assert latest_checkpoint(folder) == folder / "step_000015"
    assert read_manifest(folder / "step_000010") == {
        "step": 10,
        "settings": {"lr": 0.1},
        "files": {"model.bin": 7, "shards/0.bin": 5},
    }


def test_steps_beyond_six_digits_sort_by_number(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        (tmp_path / checkpoint_name(step)).mkdir()
    assert list_checkpoints(tmp_path)[-1].name == "step_1000000"


def test_no_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None and latest_checkpoint(tmp_path / "missing") is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "tear",
    [
        lambda path: (path / "model.bin").unlink(),
        lambda path: cut(path / "shards" / "0.bin"),
        lambda path: (path / MANIFEST).unlink(),
        lambda path: cut(path / MANIFEST) or cut(path / MANIFEST),  # the newline, then the closing brace
        lambda path: (path / MANIFEST).write_text("[]"),
    ],
    ids=["file missing", "file cut", "manifest missing", "manifest cut", "manifest strange"],
)
def test_torn_checkpoint_is_passed_over(folder: Path, tear) -> None:
    tear(folder / "step_000015")
    assert read_manifest(folder / "step_000015") is None
    assert latest_checkpoint(folder) == folder / "step_000010"


def test_rotation_keeps_the_newest(folder: Path) -> None:
    rotate(folder, keep=2)
    assert [path.name for path in list_checkpoints(folder)] == ["step_000010", "step_000015"]
    rotate(folder, keep=5)
    assert len(list_checkpoints(folder)) == 2


def test_settings_that_differ_are_named() -> None:
    check_settings(Path("c"), {"lr": 0.1, "old": 1}, {"lr": 0.1})
    with pytest.raises(
        ValueError, match=r"c was written by another run \(lr: 0.1 there, 0.2 here; new: None there, 3 here\)"
    ):
        check_settings(Path("c"), {"lr": 0.1}, {"lr": 0.2, "new": 3})
