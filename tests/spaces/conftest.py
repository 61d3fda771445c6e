# SPDX-License-Identifier: Apache-2.0
"""The modules of a Space, imported as its process does: from its own folder, by plain names."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace

import pytest

from eigenhub.methods import METHODS
from tests.support.processes import ROOT


def require_listed(slug: str) -> pytest.MarkDecorator:
    """Skips the tests of a Space whose method is not in the table yet: its header comes from there."""
    listed = slug in {method.slug for method in METHODS}
    return pytest.mark.skipif(not listed, reason=f"{slug} is not in the table of methods yet")


@contextmanager
def modules_of(slug: str, *wanted: str) -> Iterator[SimpleNamespace]:
    """Modules of `spaces/<slug>`, all by default, as attributes; afterwards another Space may use the same names."""
    folder = ROOT / "spaces" / slug
    names = [path.stem for path in folder.glob("*.py")]
    sys.path.insert(0, str(folder))
    try:
        yield SimpleNamespace(**{name: import_module(name) for name in wanted or names})
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def sorsa() -> Iterator[SimpleNamespace]:
    with modules_of("sorsa") as modules:
        yield modules


@pytest.fixture(scope="module")
def dct() -> Iterator[SimpleNamespace]:
    with modules_of("dct") as modules:
        yield modules
