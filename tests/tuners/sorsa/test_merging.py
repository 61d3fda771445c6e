# SPDX-License-Identifier: Apache-2.0
"""What a merge into a narrow dtype loses, and how that is told and avoided."""

import warnings

import pytest
import torch

from tests.common.tuner_cases import move
from tests.support.models import tiny_llama
from tests.tuners.sorsa.helpers import adapted_llama, layers_of, logits, one_linear, random_weight


def small_change(dtype: torch.dtype, size: float):
    weight = random_weight(64, 64, dtype)
    model, layer = one_linear(weight, r=8)
    move(model, "sorsa_", size=size)
    return model, layer


def test_a_small_update_is_lost_in_bfloat16_and_the_share_is_told():
    model, layer = small_change(torch.bfloat16, 2e-4)
    before = layer.get_base_layer().weight.detach().float()
    delta = layer.get_delta_weight("default").detach()
    with pytest.warns(UserWarning, match=r"(?s)lost \d+% of the update to rounding.*float32"):
        model.merge_adapter()
    after = layer.get_base_layer().weight.detach().float()
    lost = ((after - before - delta).norm() / delta.norm()).item()
    assert lost > 0.5 and layer.merge_loss["default"] == pytest.approx(lost, rel=1e-3)


def test_nothing_is_lost_in_float32():
    model, layer = small_change(torch.float32, 2e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.merge_adapter()
    assert layer.merge_loss["default"] == 0.0


def test_merging_in_another_dtype_keeps_the_update():
    model = adapted_llama(base=tiny_llama().bfloat16())
    move(model, "sorsa_", size=1e-3)
    deltas = {layer.module_name: layer.get_delta_weight("default").detach() for layer in layers_of(model)}
    expected = {layer.module_name: layer.get_base_layer().weight.detach().float() for layer in layers_of(model)}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="merging lost")
        merged = model.merge_and_unload(dtype=torch.float32)
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    for name, weight in expected.items():
        torch.testing.assert_close(merged.get_submodule(name).weight, weight + deltas[name], rtol=1e-6, atol=1e-8)
    assert torch.isfinite(logits(merged)).all()


def test_the_loss_is_told_once_per_merge_and_forgotten_with_the_adapter():
    model, layer = small_change(torch.bfloat16, 2e-4)
    with pytest.warns(UserWarning, match="merging lost") as record:
        model.merge_adapter()
    assert len([w for w in record if "merging lost" in str(w.message)]) == 1
    model.unmerge_adapter()
    model.delete_adapter("default")
    assert layer.merge_loss == {}
