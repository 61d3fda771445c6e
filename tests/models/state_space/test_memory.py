# SPDX-License-Identifier: Apache-2.0
"""Peak memory of one layer, forward and backward, each in a process of its own."""

import pytest

from tests.support.processes import ROOT, run_python


pytestmark = pytest.mark.slow

LAYER = """
import sys
import torch
from eigenhub.models.s4d import S4DLayer

def resident(kind):
    line = next(line for line in open("/proc/self/status") if line.startswith(kind))
    return int(line.split()[1]) / 2**20  # KiB to GiB

backend, length = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
layer = S4DLayer(hidden_size=128, state_size=64, conv_backend=backend)
layer(torch.randn(1, 64, 128)).sum().backward()
before = resident("VmRSS")
layer(torch.randn(8, length, 128, requires_grad=True)).sum().backward()
print(resident("VmHWM") - before)
"""


@pytest.mark.parametrize(("conv_backend", "gibibytes"), [("fft", 0.9), ("chunk", 0.5)])
def test_an_s4d_layer_over_a_long_sequence(conv_backend, gibibytes, tmp_path):
    assert run_python(LAYER, conv_backend, "16384", folder=tmp_path).result < gibibytes


def test_the_fused_scan_needs_less_than_s5_pytorch(tmp_path):
    pytest.importorskip("s5", reason="s5-pytorch is not installed")
    benchmark = ROOT / "benchmarks" / "s5_ptd.py"
    peaks = {
        name: run_python(benchmark, "--peak", name, "4096", folder=tmp_path).result for name in ("fused", "s5-pytorch")
    }
    assert peaks["fused"] < 0.55 * peaks["s5-pytorch"], peaks
