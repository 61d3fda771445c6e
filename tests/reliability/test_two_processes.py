# SPDX-License-Identifier: Apache-2.0
"""Two processes that write into one folder: one whole version is left, or the second is refused."""

import os
import time
from argparse import Namespace
from pathlib import Path

import pytest
from accelerate import Accelerator

from eigenhub.files import lock_folder, locking, write_text
from eigenhub.training.checkpoint import Checkpoints
from tests.reliability.forks import in_fork, started
from tests.reliability.savers import SAVERS, Saver


pytestmark = pytest.mark.slow

WRITERS, ROUNDS = 2, 15
#: Those that one process at a time may use refuse the other one, see below; the log is one run's.
SHARED = [saver for saver in SAVERS if saver.name not in ("Checkpoints", "metrics log", "federated round")]


@pytest.mark.parametrize("saver", SHARED, ids=str)
def test_one_whole_version_is_left(saver: Saver, tmp_path: Path) -> None:
    saver.save(tmp_path, 1)
    saver.save(tmp_path, 2)

    def write(version: int) -> None:
        for _ in range(ROUNDS):
            saver.save(tmp_path, version)

    children = [started(lambda version=version: write(version)) for version in (1, 2)]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0, 0]
    try:
        assert saver.load(tmp_path) in (1, 2)
    except ValueError:
        assert saver.pair
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = [letter * 100_000 for letter in "ab"]
    write_text(path, texts[0])
    child = started(lambda: [write_text(path, texts[turn % 2]) for turn in range(200)])
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert path.read_text() in texts


@pytest.mark.parametrize("way", ["lock", "checkpoints", "run"])
def test_the_second_run_of_a_folder_is_refused(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking.lock_folder, "__defaults__", (0.2,))
    from eigenhub.training.setup import make_accelerator

    args = Namespace(
        output_dir=tmp_path, gradient_accumulation_steps=1, seed=0, report_to="none", max_grad_norm=1.0, tf32=False
    )
    enter = {
        "lock": lambda: lock_folder(tmp_path),
        "checkpoints": lambda: Checkpoints(Accelerator(cpu=True), tmp_path, {}),
        "run": lambda: make_accelerator(args, "test"),
    }[way]

    def hold() -> None:
        kept = enter()
        (tmp_path / "entered").touch()
        time.sleep(60)
        del kept

    def expect_refusal() -> None:
        with pytest.raises(BlockingIOError, match="is being written to by another process"):
            enter()

    holder = started(hold)
    try:
        while not (tmp_path / "entered").exists():
            time.sleep(0.05)
        assert in_fork(expect_refusal) == 0
    finally:
        os.kill(holder, 9)
        os.waitpid(holder, 0)
    assert in_fork(enter) == 0  # a killed run leaves no lock behind
