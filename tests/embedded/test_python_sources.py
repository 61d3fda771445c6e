# SPDX-License-Identifier: Apache-2.0
"""The sources are all there, once, in a fixed order, without what differs between machines."""

import inspect
import textwrap
from pathlib import Path

import pytest

from eigenhub.embedded import python_sources
from eigenhub.embedded.python_sources import load_python_sources


def test_splits() -> None:
    splits = load_python_sources()
    train, test = splits["train"]["name"], splits["test"]["name"]
    assert list(train) == sorted(train)
    assert not set(train) & set(test)
    assert {"argparse.py", "textwrap.py"} <= {*train, *test}
    assert not [name for name in [*train, *test] if name.startswith("_sysconfigdata")]
    sizes = {name: sum(map(len, split["text"])) for name, split in splits.items()}
    assert sizes["train"] > 3_000_000
    assert 0.02 < sizes["test"] / sizes["train"] < 0.12


def test_text_is_the_source() -> None:
    rows = [row for split in load_python_sources().values() for row in split if row["name"] == "textwrap.py"]
    assert [row["text"] for row in rows] == [inspect.getsource(textwrap)]


def test_a_library_without_sources_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_sources.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        load_python_sources()
