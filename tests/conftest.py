# SPDX-License-Identifier: Apache-2.0
"""Settings of the whole suite: offline before anything is imported, one thread, fixed seeds."""

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


# The libraries read these at import, so they come before any other import of this file.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HOME": tempfile.mkdtemp(prefix="eigenhub-hf-home-"),
    "GRADIO_ANALYTICS_ENABLED": "False",
    "MPLBACKEND": "Agg",
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Embedded base models are pretrained once and kept between runs, apart from the user's own cache.
os.environ.setdefault("EIGENHUB_HOME", str(Path(__file__).parents[1] / ".pytest_cache" / "eigenhub"))

import pytest  # noqa: E402


pytest_plugins = ["tests.support.fixtures", "tests.house.toy_method"]


def pytest_unconfigure() -> None:
    import shutil

    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """The same random numbers for a test alone and in any order; costs no import in tests without torch."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def nan_empty() -> Iterator[None]:
    """Memory that nobody wrote reads as NaN, so that a kernel or a meta-device load that forgets to fill it fails."""
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
