# SPDX-License-Identifier: Apache-2.0
import pytest

from eigenhub.hub.resources import find, resource_root
from tests.house.sources import ROOT


def test_an_editable_install_uses_the_checkout():
    assert resource_root() == ROOT
    assert find("hub_cards") == ROOT / "hub_cards"


def test_a_wheel_uses_its_own_copies(tmp_path):
    installed = tmp_path / "site-packages" / "eigenhub"
    assert resource_root(installed) == installed / "resources"


def test_a_source_folder_of_somebody_else_is_no_checkout(tmp_path):
    assert resource_root(tmp_path / "src" / "eigenhub") == tmp_path / "src" / "eigenhub" / "resources"


def test_a_missing_resource_is_named():
    with pytest.raises(FileNotFoundError, match="scripts/nope is not part of this installation"):
        find("scripts/nope")
