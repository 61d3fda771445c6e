# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the whole test suite; the root conftest loads this module as a plugin."""

from collections.abc import Iterator
from pathlib import Path

import pytest


# the common testers hold asserts of their own; pytest rewrites them only if told before their import
pytest.register_assert_rewrite("tests.common")

from tests.support.hub_server import HubServer  # noqa: E402


@pytest.fixture(scope="session")
def hub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """The stand-in of the Hub, shared by the session: use repository names of your own."""
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture
def client_dir(tmp_path: Path) -> Path:
    """Working directory and cache of one client of the Hub."""
    return tmp_path / "client"
