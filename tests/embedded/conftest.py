# SPDX-License-Identifier: Apache-2.0
"""An empty cache per test."""

from pathlib import Path

import pytest


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("EIGENHUB_HOME", str(home))
    return home
