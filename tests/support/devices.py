# SPDX-License-Identifier: Apache-2.0
"""Skips with a reason, for tests that need something a machine may lack. Usable on functions and classes."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from tests.support.data import shared_data


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-headless-shell")


def require_gpu(test: Any) -> Any:
    """Marks a test `gpu` and skips it without a CUDA device."""
    from torch.cuda import is_available  # costs a second: only for modules that have such tests

    return pytest.mark.gpu(pytest.mark.skipif(not is_available(), reason="needs a CUDA GPU")(test))


def require_multi_gpu(test: Any) -> Any:
    """Marks a test `multi_gpu` and skips it with fewer than two CUDA devices."""
    from torch.cuda import device_count

    return pytest.mark.multi_gpu(pytest.mark.skipif(device_count() < 2, reason="needs two CUDA GPUs")(test))


def require_package(name: str) -> Callable[[Any], Any]:
    """Skips a test where an optional package is not installed."""
    return pytest.mark.skipif(find_spec(name) is None, reason=f"needs {name}")


def require_shared_data(relative: str) -> Callable[[Any], Any]:
    """Skips a test where a real data set is not present below `../shared/data`."""
    return pytest.mark.skipif(not shared_data(relative).exists(), reason=f"needs ../shared/data/{relative}")


def require_chromium(test: Any) -> Any:
    """Marks a test `browser` and skips it without Chromium or playwright."""
    missing = CHROMIUM is None or find_spec("playwright") is None
    return pytest.mark.browser(pytest.mark.skipif(missing, reason="needs Chromium and playwright")(test))


require_bitsandbytes = require_package("bitsandbytes")
require_deepspeed = require_package("deepspeed")
