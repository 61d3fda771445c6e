# SPDX-License-Identifier: Apache-2.0
"""Skips name what is missing, carry their marker, and let everything else run."""

import sys

import pytest

from tests.support import devices


def marks(test) -> dict[str, pytest.Mark]:
    return {mark.name: mark for mark in test.pytestmark}


def sample():
    def test():
        pass

    return test


def test_a_missing_package_or_data_set_skips_with_its_name():
    absent = marks(devices.require_package("a_package_that_is_absent")(sample()))["skipif"]
    assert absent.args == (True,) and "a_package_that_is_absent" in absent.kwargs["reason"]
    assert marks(devices.require_package("pytest")(sample()))["skipif"].args == (False,)
    data = marks(devices.require_shared_data("absent/set.csv")(sample()))["skipif"]
    assert data.args == (True,) and "../shared/data/absent/set.csv" in data.kwargs["reason"]


@pytest.mark.parametrize(
    ("require", "marker", "function"),
    [
        (devices.require_gpu, "gpu", "torch.cuda.is_available"),
        (devices.require_multi_gpu, "multi_gpu", "torch.cuda.device_count"),
    ],
)
def test_gpu_tests_follow_the_devices(monkeypatch, require, marker, function):
    for present in (0, 2):
        monkeypatch.setattr(function, lambda present=present: present)
        found = marks(require(sample()))
        assert marker in found and found["skipif"].args == (not present,)


def test_browser_tests_follow_chromium(monkeypatch):
    for path in (None, sys.executable):
        monkeypatch.setattr(devices, "CHROMIUM", path)
        found = marks(devices.require_chromium(sample()))
        assert "browser" in found and found["skipif"].args == (path is None,)
