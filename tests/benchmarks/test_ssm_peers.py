# SPDX-License-Identifier: Apache-2.0
"""The contenders of the scan benchmark compute one and the same layer, so that their times may be compared."""

import importlib.util
import time

import pytest
import torch
from torch.testing import assert_close

from eigenhub.linalg.scan import diagonal_ssm_reference
from tests.support.processes import ROOT


LENGTH = 50


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def expected(peers, features, states):
    """Output and gradient of the input by the definition, in float64 with the exact zero-order hold."""
    p = {name: tensor.double() for name, tensor in peers.parameters(features, states).items()}
    u, upstream = peers.inputs(2, LENGTH, features)
    values = torch.view_as_complex(p["eigenvalues"])
    lbar = (values * p["log_step"].exp()).exp()
    bbar = ((lbar - 1) / values)[:, None] * torch.view_as_complex(p["b"])
    y, _ = diagonal_ssm_reference(u, torch.view_as_real(lbar), torch.view_as_real(bbar), p["c"], p["d"])
    return y, torch.autograd.grad(y, u, upstream.double())[0]


@pytest.mark.parametrize("name", ["fused", "associative", "s5-pytorch"])
def test_every_layer_is_the_same_layer(name):
    from support import ssm_peers

    if name == "s5-pytorch":
        pytest.importorskip("s5", reason="s5-pytorch is not installed")
        layer, leaves = ssm_peers.s5_pytorch_layer(6, 8)
    else:
        layer, leaves = ssm_peers.eigenhub_layer(6, 8, name)
    found = ssm_peers.step_of(layer, leaves, *ssm_peers.inputs(2, LENGTH, 6))()
    for one, other in zip(found, expected(ssm_peers, 6, 8), strict=True):
        assert_close(one.double(), other.double(), rtol=0, atol=2e-4 * other.abs().max().item())


def test_both_kernels_are_the_same_kernel():
    from support import ssm_peers

    fast, naive = (ssm_peers.s4d_kernel_call(3, 4, LENGTH, naive=naive)() for naive in (False, True))
    for one, other in zip(fast, naive, strict=True):
        assert_close(one, other, rtol=0, atol=1e-4 * other.abs().max().item())


def test_the_naive_layer_is_a_causal_convolution():
    from support import ssm_peers

    layer, _ = ssm_peers.naive_s4d_layer(3, 4)
    impulse = torch.zeros(1, LENGTH, 3)
    impulse[:, 7] = 1
    kernel, _ = ssm_peers.s4d_kernel_call(3, 4, LENGTH, naive=True)()
    response = layer(impulse)[0].mT
    assert_close(response[:, 7:], kernel[:, : LENGTH - 7], rtol=0, atol=1e-4 * kernel.abs().max().item())
    assert response[:, :7].abs().max() < 1e-4 * kernel.abs().max()


def processor_seconds(calls, rounds=3):
    """Shortest processor time of each call, taken in turn."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds + 1):  # the first round loads and warms up
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


@pytest.mark.slow
def test_the_fused_scan_stays_ahead_of_its_peers():
    """Guards against a slip; the benchmark asks for more."""
    from support import ssm_peers

    given = ssm_peers.inputs(8, 4096, 128)
    layers = {name: ssm_peers.eigenhub_layer(128, 64, name) for name in ("fused", "associative")}
    if importlib.util.find_spec("s5") is not None:
        layers["s5-pytorch"] = ssm_peers.s5_pytorch_layer(128, 64)
    seconds = processor_seconds({name: ssm_peers.step_of(*layer, *given) for name, layer in layers.items()})
    assert seconds["fused"] < 0.8 * seconds["associative"]
    assert seconds["fused"] < 0.6 * seconds.get("s5-pytorch", float("inf"))


@pytest.mark.slow
def test_time_grows_with_the_length_and_no_faster():
    from support import ssm_peers

    layer = ssm_peers.eigenhub_layer(128, 64)
    calls = {length: ssm_peers.step_of(*layer, *ssm_peers.inputs(1, length, 128)) for length in (4096, 65536)}
    seconds = processor_seconds(calls)
    assert seconds[65536] < 16 * 1.6 * seconds[4096]
