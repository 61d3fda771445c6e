# SPDX-License-Identifier: Apache-2.0
"""The rest of the package works without Flower, and says how to get it. This test needs no Flower."""

import sys

import pytest

import eigenhub.federated


@pytest.mark.parametrize("name", ["FedSVDStrategy", "make_client_app"])
def test_without_flower_it_says_what_to_install(monkeypatch, name):
    for module in [m for m in sys.modules if m.startswith(("eigenhub.federated.flower", "flwr"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "flwr", None)
    with pytest.raises(ImportError, match=r"needs flwr: install it by `pip install 'eigenhub\[flower\]'`"):
        getattr(eigenhub.federated, name)
