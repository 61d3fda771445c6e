# SPDX-License-Identifier: Apache-2.0
"""A save that is killed at any point, or for which the disk is full, leaves the version before; the next one succeeds."""

import os
import resource
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from eigenhub.embedded.cache import cached_folder
from eigenhub.files import write_text
from tests.reliability.forks import FAILED, in_fork
from tests.reliability.savers import SAVERS, Saver


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # some savers have fifty calls to be killed at


def kill_at(point: int) -> None:
    """SIGKILL to this process before its `point`-th call of what changes files by name or waits for the disk."""
    calls = count(1)
    for name in ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir", "open", "truncate"):
        setattr(os, name, _watched(getattr(os, name), calls, point))


def _watched(function: Callable, calls: count, point: int) -> Callable:
    def watched(*arguments, **options):
        if next(calls) == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return watched


def limit_files(size: int) -> None:
    """Every file of this process may have so many bytes; more is `EFBIG`, as a full disk is `ENOSPC`."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def version_in(saver: Saver, folder: Path) -> int | None:
    """Which version is there; none only if two files do not belong together and say so."""
    try:
        return int(saver.load(folder))
    except ValueError:
        assert saver.pair, "the version before is gone"
        return None


@pytest.mark.parametrize("saver", SAVERS, ids=str)
def test_killed_at_any_point(saver: Saver, tmp_path: Path) -> None:
    saver.save(tmp_path, 1)
    assert version_in(saver, tmp_path) == 1
    for point in count(1):
        status = in_fork(lambda point=point: (kill_at(point), saver.save(tmp_path, 2)))
        assert status in (0, -signal.SIGKILL), f"call {point}: exit status {status}"
        assert version_in(saver, tmp_path) in ((2,) if status == 0 else (1, 2, None) if saver.pair else (1, 2))
        for version in (2, 1):
            saver.save(tmp_path, version)
            assert version_in(saver, tmp_path) == version, f"after a kill at call {point}"
        if status == 0:
            break
    assert point > 1, "nothing was watched"


@pytest.mark.parametrize("saver", SAVERS, ids=str)
def test_full_disk(saver: Saver, tmp_path: Path) -> None:
    saver.save(tmp_path, 1)
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    failures = 0
    for size in (0, 1, 20, 100, 1000):
        failures += in_fork(lambda size=size: (limit_files(size), saver.save(tmp_path, 2))) == FAILED
        assert version_in(saver, tmp_path) in (1, 2)
        left = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} - before
        assert all(".tmp" in str(path) for path in left)
        saver.save(tmp_path, 2)
        assert version_in(saver, tmp_path) == 2
        saver.save(tmp_path, 1)
        assert version_in(saver, tmp_path) == 1
    assert failures


def test_a_cache_that_found_no_room_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENHUB_HOME", str(tmp_path))

    def build() -> Path:
        return cached_folder("kept", {"seed": 0}, lambda place: write_text(place / "content", "x" * 100))

    for size in (0, 20, 99):
        assert in_fork(lambda size=size: (limit_files(size), build())) == FAILED
        assert not [path for path in tmp_path.rglob("*") if path.suffix != ".lock" and path != tmp_path / "kept"]
    assert (build() / "content").read_text() == "x" * 100
