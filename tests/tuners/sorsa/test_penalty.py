# SPDX-License-Identifier: Apache-2.0
"""The penalty R against its closed form in float64."""

import copy

import pytest
import torch
from peft import get_peft_model
from torch import nn

from eigenhub.tuners.sorsa import SorsaConfig, apply_regularizer, orthonormality_penalty
from tests.common.tuner_cases import move
from tests.support.models import tiny_llama
from tests.tuners.sorsa.helpers import adapted_llama, frames_of, gradients, layers_of, one_linear, random_weight
from tests.tuners.sorsa.reference import dense_penalty


def double_llama(**config):
    model = adapted_llama(base=tiny_llama().double(), moved=True, target_modules=["q_proj", "down_proj"], **config)
    assert layers_of(model)[0].sorsa_U["default"].dtype == torch.float64
    return model


@pytest.mark.parametrize("eps", [0.0, 1e-3, 0.5])
def test_value_is_the_definition(eps):
    model = double_llama(reg_eps=eps)
    expected = dense_penalty(frames_of(model), eps)
    for found in (orthonormality_penalty(model), model.regularization_loss(), model.base_model.regularization_loss()):
        torch.testing.assert_close(found.detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 1e-3, 0.5])
def test_gradient_is_the_closed_form(eps):
    model = double_llama(reg_eps=eps)
    model.regularization_loss().backward()
    count = 2 * len(layers_of(model))
    for layer in layers_of(model):
        for matrix, tall in ((layer.sorsa_U["default"], True), (layer.sorsa_V["default"], False)):
            frame = matrix.detach() if tall else matrix.detach().mT
            defect = frame.mT @ frame - torch.eye(2, dtype=torch.float64)
            size = (defect.square().sum() + eps**2).sqrt()
            expected = 2 / count * frame @ defect / size
            torch.testing.assert_close(matrix.grad, expected if tall else expected.mT, rtol=1e-11, atol=1e-12)
        assert layer.sorsa_S["default"].grad is None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_applied_gradient_is_that_of_autograd(reduction, eps):
    model = double_llama(reg_eps=eps, reg_reduction=reduction, reg_weight=0.7)
    twin = copy.deepcopy(model)
    (0.7 * 3.0 * twin.regularization_loss()).backward()
    apply_regularizer(model, scale=3.0)
    found, expected = gradients(model), gradients(twin)
    assert found.keys() == expected.keys() and len(found) == 2 * len(layers_of(model))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-11, atol=1e-12)
    apply_regularizer(model, scale=3.0)  # adds to what is there
    torch.testing.assert_close(gradients(model), {n: 2 * g for n, g in expected.items()}, rtol=1e-11, atol=1e-12)


def test_sum_is_the_mean_times_the_number_of_matrices():
    mean, total = (double_llama(reg_reduction=kind) for kind in ("mean", "sum"))
    torch.testing.assert_close(total.regularization_loss(), 2 * len(layers_of(mean)) * mean.regularization_loss())


def test_the_official_penalty_has_gradients_of_constant_size_and_ours_fade():
    """Without smoothing, rounding noise at the start is normalised to a gradient of size 2/N per matrix."""
    for eps, fades in ((0.0, False), (1e-3, True)):
        model, layer = one_linear(random_weight(40, 30, torch.float32), r=8, reg_eps=eps)
        apply_regularizer(model)
        size = layer.sorsa_U["default"].grad.norm().item()
        assert (size < 0.02) if fades else (size == pytest.approx(0.2 * 2 / 2, rel=1e-2)), size


def test_exactly_orthonormal_frames():
    for eps in (0.0, 1e-3):
        model, layer = one_linear(torch.eye(6, dtype=torch.float64), reg_eps=eps)
        with torch.no_grad():
            layer.sorsa_U["default"].copy_(torch.eye(6, 3))
            layer.sorsa_V["default"].copy_(torch.eye(3, 6))
        loss = model.regularization_loss()
        assert loss.item() == 0.0
        loss.backward()
        assert layer.sorsa_U["default"].grad.abs().max() == 0 and layer.sorsa_V["default"].grad.abs().max() == 0
        apply_regularizer(model)
        assert torch.isfinite(layer.sorsa_U["default"].grad).all()
        assert layer.sorsa_U["default"].grad.abs().max() == 0


def test_near_orthonormality_the_value_does_not_cancel():
    model, layer = one_linear(torch.eye(64), r=32, reg_eps=0.0)
    with torch.no_grad():
        layer.sorsa_U["default"].copy_(torch.eye(64, 32) * (1 + 1e-5))
        layer.sorsa_V["default"].copy_(torch.eye(32, 64))
    assert model.regularization_loss().item() == pytest.approx(0.5 * 2e-5 * 32**0.5, rel=2e-2)


def test_value_inside_autocast_is_the_float32_one():
    model = adapted_llama(moved=True)
    expected = model.regularization_loss()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.regularization_loss()
        exact = model.base_model.orthonormality()
        apply_regularizer(model)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert exact == model.base_model.orthonormality()
    twin = adapted_llama(moved=True)
    apply_regularizer(twin)
    torch.testing.assert_close(gradients(model), gradients(twin), rtol=0, atol=0)


def test_orthonormality_reports_each_matrix_without_smoothing():
    model = double_llama(reg_eps=0.5)
    report = model.base_model.orthonormality()
    frames = frames_of(model)
    assert len(report) == 2 * len(frames) and all(isinstance(value, float) for value in report.values())
    for layer, (u, v) in zip(layers_of(model), frames, strict=True):
        for kind, gram in (("U", u.mT @ u), ("V", v @ v.mT)):
            (found,) = [value for name, value in report.items() if name.endswith(f"{layer.module_name}.{kind}")]
            assert found == pytest.approx(torch.linalg.norm(gram - torch.eye(2, dtype=gram.dtype)).item(), rel=1e-12)


def test_active_adapters_count_and_names_choose():
    model = adapted_llama(base=tiny_llama().double(), moved=True)
    model.add_adapter("second", SorsaConfig(r=3, target_modules=["q_proj"], reg_eps=0.0, reg_weight=5.0))
    move(model, "sorsa_", "second", seed=4)
    second = dense_penalty(
        [
            (layer.sorsa_U["second"].detach(), layer.sorsa_V["second"].detach())
            for layer in layers_of(model)
            if "second" in layer.sorsa_U
        ]
    )
    first = dense_penalty(frames_of(model), 1e-3)
    of = model.regularization_loss
    torch.testing.assert_close(of().detach(), second)
    torch.testing.assert_close(of("default").detach(), first)
    torch.testing.assert_close(of(["second", "default"]).detach(), first + second)
    model.base_model.set_adapter(["default", "second"])
    torch.testing.assert_close(of().detach(), first + second)
    torch.testing.assert_close(orthonormality_penalty(model, weighted=True).detach(), 0.2 * first + 5 * second)
    with pytest.raises(ValueError, match="absent"):
        of("absent")


def test_half_precision_factors_raise_the_smoothing_to_their_floor():
    base = nn.ModuleDict({"linear": nn.Linear(64, 48, bias=False)}).bfloat16()
    with pytest.warns(UserWarning, match="half precision"):
        model = get_peft_model(base, SorsaConfig(r=32, target_modules=["linear"]), autocast_adapter_dtype=False)
    value = model.regularization_loss()
    assert value.dtype == torch.float32
    floor = 32**0.5 * torch.finfo(torch.bfloat16).eps
    assert value.item() == pytest.approx(dense_penalty(frames_of(model), floor).item(), rel=1e-4)
    value.backward()
    assert layers_of(model)[0].sorsa_U["default"].grad.dtype == torch.bfloat16


def test_no_sorsa_adapter():
    with pytest.raises(ValueError, match="SORSA"):
        orthonormality_penalty(tiny_llama())
    with pytest.raises(ValueError, match="SORSA"):
        apply_regularizer(tiny_llama())
