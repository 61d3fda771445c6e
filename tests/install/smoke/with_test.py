# SPDX-License-Identifier: Apache-2.0
"""Extra `test`: pytest runs with its plugins, and what tests import is there."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path


for module in ("playwright.sync_api", "psutil", "starlette", "uvicorn", "hatchling", "gradio", "tensorboard"):
    import_module(module)
Path("test_smoke.py").write_text("""
import pytest
import torch
from hypothesis import given, settings, strategies
from eigenhub.linalg.dct import dct_matrix


@pytest.mark.timeout(60)
@settings(max_examples=5, deadline=None)
@given(strategies.integers(1, 16))
def test_rows_are_orthonormal(size):
    matrix = dct_matrix(size, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(size, dtype=torch.float64))
""")
command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider"]
done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
print("pytest with hypothesis, xdist and timeout")
