# SPDX-License-Identifier: Apache-2.0
"""The modules of a Space, imported as its process does: from its own folder, by plain names."""

import sys
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace

import pytest

from tests.support.processes import ROOT


@pytest.fixture(scope="module")
def sorsa() -> Iterator[SimpleNamespace]:
    """Modules of `spaces/sorsa` as attributes; afterwards another Space may use the same names."""
    folder = ROOT / "spaces" / "sorsa"
    names = [path.stem for path in folder.glob("*.py")]
    sys.path.insert(0, str(folder))
    yield SimpleNamespace(**{name: import_module(name) for name in names})
    sys.path.remove(str(folder))
    for name in names:
        del sys.modules[name]
