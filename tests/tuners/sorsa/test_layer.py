# SPDX-License-Identifier: Apache-2.0
"""The layer against dense float64 autograd of the definition."""

import pytest
import torch
from peft import get_peft_model
from torch import nn

from eigenhub.tuners.sorsa import SorsaConfig, SorsaConv1D, SorsaLinear
from tests.common.tuner_cases import CASES, move, outputs
from tests.support.models import tiny_gpt2
from tests.tuners.sorsa.helpers import TRAINED, OneLinear, adapted_llama, layers_of, logits, one_linear, random_weight
from tests.tuners.sorsa.reference import DenseSorsa


SHAPES = [(9, 5), (5, 9), (7, 7)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("alpha", [None, 1.5, 6.0], ids=["s=1", "s=0.5", "s=2"])
@pytest.mark.parametrize("bias", [False, True])
def test_forward_and_gradients(shape, alpha, bias):
    model, layer = one_linear(random_weight(*shape), bias=bias, alpha=alpha)
    assert layer.scaling["default"] == (1.0 if alpha is None else alpha / 3)
    move(model, "sorsa_")
    x = random_weight(6, shape[1], seed=1).requires_grad_()
    upstream = random_weight(6, shape[0], seed=2)
    found = model(x)
    found.backward(upstream)

    dense = DenseSorsa.of(layer)
    reference_x = x.detach().clone().requires_grad_()
    expected = nn.functional.linear(reference_x, dense.effective(), layer.get_base_layer().bias)
    expected.backward(upstream)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(x.grad, reference_x.grad, rtol=1e-10, atol=1e-10)
    for name, leaf in zip(TRAINED, (dense.u, dense.s, dense.v), strict=True):
        torch.testing.assert_close(getattr(layer, name)["default"].grad, leaf.grad, rtol=1e-10, atol=1e-10)
    assert all(layer.get_parameter(f"{name}0.default").grad is None for name in TRAINED)


def test_gradcheck_over_batch_dimensions():
    model, layer = one_linear(random_weight(5, 4), r=2, alpha=3.0)
    move(model, "sorsa_")
    x = random_weight(6, 4, seed=1).view(2, 3, 4).requires_grad_()
    factors = [getattr(layer, name)["default"] for name in TRAINED]

    def forward(x, u, s, v):
        with torch.nn.utils.parametrize.cached():
            return torch.func.functional_call(
                layer, {f"{name}.default": f for name, f in zip(TRAINED, (u, s, v), strict=True)}, (x,)
            )

    assert torch.autograd.gradcheck(forward, (x, *[f.detach().clone().requires_grad_() for f in factors]))


def test_two_active_adapters_add_up():
    model, layer = one_linear(random_weight(8, 6))
    model.add_adapter("second", SorsaConfig(r=2, alpha=5.0, target_modules=["linear"]))
    for seed, name in enumerate(("default", "second")):
        move(model, "sorsa_", name, seed=seed)
    model.base_model.set_adapter(["default", "second"])
    x, upstream = random_weight(4, 6, seed=1), random_weight(4, 8, seed=2)
    found = model(x)
    found.backward(upstream)
    pair = [DenseSorsa.of(layer, name) for name in ("default", "second")]
    expected = x @ (pair[0].weight + pair[0].delta() + pair[1].delta()).mT
    expected.backward(upstream)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for name, dense in zip(("default", "second"), pair, strict=True):
        for key, leaf in zip(TRAINED, (dense.u, dense.s, dense.v), strict=True):
            torch.testing.assert_close(getattr(layer, key)[name].grad, leaf.grad, rtol=1e-10, atol=1e-10)


def test_conv1d_keeps_the_layout_of_linear():
    model = get_peft_model(tiny_gpt2().double(), SorsaConfig(r=2, target_modules=["c_attn"]))
    layer = layers_of(model)[0]
    base = layer.get_base_layer()
    assert isinstance(layer, SorsaConv1D) and tuple(base.weight.shape) == (16, 48)
    assert tuple(layer.sorsa_U["default"].shape) == (48, 2) and tuple(layer.sorsa_V["default"].shape) == (2, 16)
    move(model, "sorsa_")
    x, upstream = random_weight(4, 16, seed=1), random_weight(4, 48, seed=2)
    found = layer(x)
    found.backward(upstream)
    dense = DenseSorsa.of(layer)
    expected = x @ dense.effective().mT + base.bias
    expected.backward(upstream)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer.sorsa_U["default"].grad, dense.u.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer.get_delta_weight("default"), dense.delta().mT, rtol=1e-10, atol=1e-10)


def test_dropout_drops_the_change_only():
    """The same mask goes to both products: a fresh adapter stays a no-op, and the pretrained block is not perturbed."""
    weight = random_weight(8, 6, torch.float32)
    model, layer = one_linear(weight, dropout=0.5)
    x = random_weight(64, 6, torch.float32, seed=1)
    model.train()
    assert torch.equal(model(x), x @ weight.mT)
    move(model, "sorsa_")
    model.train()
    dense = DenseSorsa.of(layer)
    torch.manual_seed(3)
    found = model(x)
    torch.manual_seed(3)
    dropped = nn.functional.dropout(x, 0.5).double()
    expected = x.double() @ weight.double().mT + dropped @ dense.delta().mT
    torch.testing.assert_close(found.double(), expected.detach(), rtol=1e-4, atol=1e-5)
    model.eval()
    torch.testing.assert_close(model(x).double(), x.double() @ dense.effective().detach().mT, rtol=1e-4, atol=1e-5)


def test_negative_and_reordered_values_are_legal():
    model, layer = one_linear(random_weight(6, 6))
    with torch.no_grad():
        layer.sorsa_S["default"].copy_(torch.tensor([-0.5, 2.0, 0.0]))
    x = random_weight(3, 6, seed=1)
    torch.testing.assert_close(model(x), x @ DenseSorsa.of(layer).effective().mT, rtol=1e-10, atol=1e-10)
    flipped, twin = one_linear(random_weight(6, 6))
    with torch.no_grad():
        twin.sorsa_S["default"].copy_(torch.tensor([0.5, 2.0, 0.0]))
        twin.sorsa_U["default"][:, 0] *= -1
    torch.testing.assert_close(flipped(x), model(x), rtol=1e-10, atol=1e-10)


def test_zero_values_have_gradients_in_s_only():
    model, layer = one_linear(random_weight(6, 5))
    with torch.no_grad():
        layer.sorsa_S["default"].zero_()
    model(random_weight(4, 5, seed=1)).square().sum().backward()
    assert layer.sorsa_U["default"].grad.abs().max() == 0 and layer.sorsa_V["default"].grad.abs().max() == 0
    assert layer.sorsa_S["default"].grad.abs().min() > 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("alpha", [None, 5.0])
def test_fresh_adapters_are_exact_for_every_scale_and_rank(case, alpha):
    base = case.model()
    expected = outputs(base, case)
    model = get_peft_model(base, SorsaConfig(r=5, alpha=alpha, target_modules=case.targets))
    assert torch.equal(outputs(model, case), expected)


def test_fan_in_fan_out_is_ignored_by_linear_layers():
    """A square weight read the wrong way round would pass every check of shapes."""
    weight = random_weight(6, 6)
    with pytest.warns(UserWarning, match="fan_in_fan_out"):
        _, layer = one_linear(weight, fan_in_fan_out=True)
    _, expected = one_linear(weight)
    assert torch.equal(layer.sorsa_U["default"], expected.sorsa_U["default"])


def test_fan_in_fan_out_on_a_layer_that_stores_its_transpose():
    class Stored(nn.Linear):
        """`(in, out)` in memory."""

        def __init__(self, weight):
            super().__init__(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
            self.weight = nn.Parameter(weight.mT.contiguous())

        def forward(self, x):
            return x @ self.weight

    weight = random_weight(7, 4)
    base = OneLinear(weight)
    base.linear = Stored(weight)
    model = get_peft_model(base, SorsaConfig(r=3, target_modules=["linear"], fan_in_fan_out=True))
    expected_model, expected = one_linear(weight)
    layer = layers_of(model)[0]
    assert type(layer) is SorsaLinear
    for name in TRAINED:
        assert torch.equal(getattr(layer, name)["default"], getattr(expected, name)["default"])
    move(model, "sorsa_")
    move(expected_model, "sorsa_")
    x = random_weight(3, 4, seed=1)
    torch.testing.assert_close(model(x), expected_model(x), rtol=1e-12, atol=1e-12)
    model.merge_adapter()
    torch.testing.assert_close(model(x), expected_model(x), rtol=1e-12, atol=1e-12)


def test_bias_and_dtype_of_the_base_are_kept():
    model = adapted_llama(base=None, moved=True)
    assert logits(model).dtype == torch.float32
    half, layer = one_linear(random_weight(6, 5, torch.bfloat16), bias=True)
    out = half(random_weight(2, 5, torch.bfloat16, seed=1))
    assert out.dtype == torch.bfloat16 and layer.sorsa_U["default"].dtype == torch.float32
