# SPDX-License-Identifier: Apache-2.0
"""The spectrum report and the paper's drift metrics against dense float64 references."""

import math

import pytest
import torch
from peft import get_peft_model

from eigenhub.tuners.sorsa import SorsaConfig, spectrum_report, weight_drift
from tests.common.tuner_cases import move
from tests.support.models import tiny_gpt2, tiny_llama
from tests.tuners.sorsa.helpers import adapted_llama, layers_of, one_linear, random_weight
from tests.tuners.sorsa.reference import DenseSorsa


def test_report_of_a_moved_adapter():
    model = adapted_llama(base=tiny_llama().double(), r=4)
    move(model, "sorsa_")
    report = spectrum_report(model)
    assert set(report) == {layer.module_name for layer in layers_of(model)}
    for layer in layers_of(model):
        found, dense = report[layer.module_name], DenseSorsa.of(layer)
        u, s, v = (t.detach() for t in (dense.u, dense.s, dense.v))
        values = torch.linalg.svdvals(u @ torch.diag(s) @ v)[:4]
        assert found.kappa == pytest.approx((values[0] / values[3]).item(), rel=1e-9)
        assert found.kappa0 == pytest.approx((dense.s0[0] / dense.s0[3]).item(), rel=1e-9)
        eye = torch.eye(4, dtype=torch.float64)
        assert found.defect_u == pytest.approx((u.mT @ u - eye).norm().item(), rel=1e-9)
        assert found.defect_v == pytest.approx((v @ v.mT - eye).norm().item(), rel=1e-9)
        q = torch.linalg.qr(u).Q
        smallest = torch.linalg.svdvals(q.mT @ dense.u0.detach()).min().clamp(max=1)
        assert found.angle == pytest.approx(math.acos(smallest), rel=1e-6)
        assert torch.equal(found.s.abs(), s.abs().sort(descending=True).values.float())
        torch.testing.assert_close(found.s0, dense.s0.detach().float())


def test_report_of_a_fresh_adapter_and_of_signs():
    model, layer = one_linear(random_weight(9, 6))
    found = spectrum_report(model)["linear"]
    assert found.kappa == pytest.approx(found.kappa0, rel=1e-9) and found.angle < 1e-7
    assert found.defect_u < 1e-12 and found.defect_v < 1e-12
    with torch.no_grad():
        layer.sorsa_S["default"].copy_(torch.tensor([1.0, -4.0, 2.0]))
    found = spectrum_report(model)["linear"]
    assert found.s.tolist() == [-4.0, 2.0, 1.0] and found.kappa == pytest.approx(4.0)
    with torch.no_grad():
        layer.sorsa_S["default"][0] = 0.0
    assert spectrum_report(model)["linear"].kappa > 1e12


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("factory", [tiny_llama, tiny_gpt2], ids=["llama", "gpt2"])
def test_drift(factory, merged):
    target = "q_proj" if factory is tiny_llama else "c_attn"
    model = get_peft_model(factory().double(), SorsaConfig(r=3, alpha=2.0, target_modules=[target]))
    fresh = weight_drift(model)
    assert all(d.values < 1e-9 and abs(d.vectors) < 1e-9 and d.angle < 1e-6 for d in fresh.values())
    move(model, "sorsa_", size=0.02)
    dense = {layer.module_name: DenseSorsa.of(layer) for layer in layers_of(model)}
    if merged:
        model.merge_adapter()
    for name, found in weight_drift(model).items():
        before, after = dense[name].weight, dense[name].effective().detach()
        u0, s0, v0 = torch.linalg.svd(before, full_matrices=False)
        u, s, v = torch.linalg.svd(after, full_matrices=False)
        assert found.values == pytest.approx((s - s0).abs().mean().item(), rel=1e-6)
        cosines = [(abs(float(u[:, i] @ u0[:, i])) + abs(float(v[i] @ v0[i]))) / 2 for i in range(len(s))]
        assert found.vectors == pytest.approx(1 - sum(cosines) / len(cosines), rel=1e-6)
        angles = torch.linalg.svdvals(u[:, :3].mT @ u0[:, :3]).clamp(max=1).acos()
        assert found.angle == pytest.approx(angles.mean().item(), rel=1e-5)


def test_unknown_adapters():
    for function in (spectrum_report, weight_drift):
        with pytest.raises(ValueError, match="absent"):
            function(adapted_llama(), "absent")
        with pytest.raises(ValueError, match="SORSA"):
            function(tiny_llama())
