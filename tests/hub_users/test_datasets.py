# SPDX-License-Identifier: Apache-2.0
"""Datasets of this package on the Hub: the same rows for everybody, and cards whose code runs."""

import pytest

from eigenhub.hub.datasets import dataset_slugs
from tests.hub_users.conftest import CLIENTS, PATIENCE
from tests.support.hub_server import run_client


pytestmark = [pytest.mark.hub, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def reader(hub_server, tmp_path_factory):
    """What somebody found who loaded all datasets after their author had pushed them."""
    folder = tmp_path_factory.mktemp("datasets")
    for name in ("author", "reader"):
        client = CLIENTS / f"dataset_{name}.py"
        done = run_client(client, hub_server, folder / name, block=(), timeout=PATIENCE)
    return done.result


def test_the_hub_gives_the_rows_that_the_package_makes(reader):
    assert reader["slugs"] == dataset_slugs()
    assert reader["changed"] == []


def test_the_code_of_the_cards_runs(reader):
    assert {slug: card["error"] for slug, card in reader["cards"].items() if card["error"]} == {}
    assert [slug for slug, card in reader["cards"].items() if "num_rows" not in card["printed"]] == []
