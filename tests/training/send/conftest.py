# SPDX-License-Identifier: Apache-2.0
"""Every `Trainer.train` collects garbage over all imported libraries: most of the time of a run of twelve steps."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def libraries_are_no_garbage() -> Iterator[None]:
    gc.freeze()
    yield
    gc.unfreeze()
