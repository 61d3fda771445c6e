# SPDX-License-Identifier: Apache-2.0
"""Cached folders are built once, whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from eigenhub.embedded.cache import RECIPE_FILE, cache_home, cached_folder, recipe_key
from tests.support.processes import child_environment


def write_answer(folder: Path) -> None:
    (folder / "answer").write_text("42")


def must_not_build(folder: Path) -> None:
    raise AssertionError("built a second time")


def test_built_once_and_found_again(empty_cache: Path) -> None:
    folder = cached_folder("thing", {"a": 1, "b": 2}, write_answer)
    assert folder.is_relative_to(empty_cache / "thing")
    assert (folder / "answer").read_text() == "42"
    assert cached_folder("thing", {"b": 2, "a": 1}, must_not_build) == folder


def test_another_recipe_is_another_folder(empty_cache: Path) -> None:
    first = cached_folder("thing", {"a": 1}, write_answer)
    assert cached_folder("thing", {"a": 2}, write_answer) != first
    assert recipe_key({"a": 1}) != recipe_key({"a": 1.5})


def test_failed_build_leaves_nothing_behind(empty_cache: Path) -> None:
    def fail(folder: Path) -> None:
        write_answer(folder)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        cached_folder("thing", {"a": 1}, fail)
    assert [path for path in (empty_cache / "thing").iterdir() if path.is_dir()] == []
    assert (cached_folder("thing", {"a": 1}, write_answer) / "answer").is_file()


def test_folder_without_recipe_is_rebuilt(empty_cache: Path) -> None:
    folder = cached_folder("thing", {"a": 1}, write_answer)
    (folder / RECIPE_FILE).unlink()
    (folder / "stale").touch()
    assert cached_folder("thing", {"a": 1}, write_answer) == folder
    assert not (folder / "stale").exists()


def test_concurrent_processes_build_once(empty_cache: Path, tmp_path: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
from eigenhub.embedded.cache import cached_folder

def build(folder):
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    time.sleep(0.5)
    (folder / "answer").write_text("42")

print((cached_folder("thing", {"a": 1}, build) / "answer").read_text())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    started = [subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in started] == [b"42\n"] * 3
    assert (tmp_path / "log").read_text() == "built\n"


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENHUB_HOME", "/somewhere/else")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_home() == Path("/somewhere/else")
    monkeypatch.delenv("EIGENHUB_HOME")
    assert cache_home() == Path("/xdg/eigenhub")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == Path.home() / ".cache" / "eigenhub"
