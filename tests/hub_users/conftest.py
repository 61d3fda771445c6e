# SPDX-License-Identifier: Apache-2.0
"""One visit to the Hub for all methods: every process costs seconds of imports, so each does its part for all of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hub_users.cases import CASES
from tests.support.hub_server import HubServer, run_client


CLIENTS = Path(__file__).parent / "clients"
#: Seconds until a client is killed: an author works for all methods, perhaps beside other tests.
PATIENCE = 1200


@dataclass(frozen=True)
class Published:
    """What the author has pushed.

    Args:
        server (`HubServer`): running.
        folder (`Path`): of the author: `<slug>/main`, `<slug>/v1` and `<slug>/plain`.
        answers (`dict`): what each version computed before it was pushed, by slug and version.
        refusal (`str`): what was said of a private repository without a token.
    """

    server: HubServer
    folder: Path
    answers: dict[str, dict[str, list[float]]]
    refusal: str


@dataclass(frozen=True)
class Reader:
    """`answers` and `cards` of one kind of reader, from the Hub and afterwards from its cache alone."""

    online: dict[str, Any]
    offline: dict[str, Any]


@pytest.fixture(scope="session")
def published(hub_server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("author")
    said = run_client(CLIENTS / "author.py", hub_server, folder, block=(), timeout=PATIENCE).result
    return Published(hub_server, folder, **said)


@pytest.fixture(scope="session")
def readers(published: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    found = {}
    for name, block in (("member", ()), ("stranger", ("eigenhub",))):
        folder = tmp_path_factory.mktemp(name)
        given = {"cache_dir": folder, "block": block, "timeout": PATIENCE}
        online = run_client(CLIENTS / f"{name}.py", published.server, **given).result
        seen = len(published.server.requests)
        offline = run_client(CLIENTS / f"{name}.py", published.server, **given, offline=True)
        assert len(published.server.requests) == seen and offline.outside == [], "the offline reader asked somebody"
        found[name] = Reader(online, offline.result)
    return found


@pytest.fixture(params=CASES, scope="session")
def slug(request: pytest.FixtureRequest) -> str:
    return request.param
