# SPDX-License-Identifier: Apache-2.0
"""The contenders of the scan benchmark compute one and the same layer, so that their times may be compared."""

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
