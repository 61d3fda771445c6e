# SPDX-License-Identifier: Apache-2.0
"""bitsandbytes bases: exact starts, what a merge loses, and the dequantised way around it."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from eigenhub.tuners.sorsa import SorsaConfig, SorsaLinear4bit, SorsaLinear8bitLt
from tests.common.tuner_cases import LLAMA, move, outputs
from tests.common.tuner_quantized import quantized_llama
from tests.support.devices import require_bitsandbytes
from tests.tuners.sorsa.helpers import layers_of


pytestmark = require_bitsandbytes
TARGETS = ["q_proj", "down_proj"]
LAYERS = {"8bit": SorsaLinear8bitLt, "nf4": SorsaLinear4bit}


@pytest.fixture(params=["8bit", "nf4"])
def kind(request) -> str:
    return request.param


def adapted(folder, kind: str, size: float = 0.1, **config) -> PeftModel:
    base = quantized_llama(folder / "dense", kind)
    model = get_peft_model(base, SorsaConfig(r=4, target_modules=TARGETS, **config)).eval()
    if size:
        move(model, "sorsa_", size=size)
    return model


def test_start_is_the_base(kind, tmp_path):
    plain = outputs(quantized_llama(tmp_path / "dense", kind), LLAMA)
    model = adapted(tmp_path, kind, size=0)
    assert {type(layer) for layer in layers_of(model)} == {LAYERS[kind]}
    assert (outputs(model, LLAMA) - plain).abs().max() < 1e-6


def test_factors_are_those_of_the_dequantised_weight(kind, tmp_path):
    """Before and after an inference, which rearranges 4-bit weights on some CPUs."""
    for warm in (False, True):
        base = quantized_llama(tmp_path / "dense", kind)
        dense = dequantised(quantized_llama(tmp_path / "dense", kind))
        if warm:
            outputs(base, LLAMA)
        model = get_peft_model(base, SorsaConfig(r=4, target_modules=TARGETS))
        for layer in layers_of(model):
            weight = dense[layer.module_name]
            u, s, v = torch.linalg.svd(weight.double())
            block = (layer.sorsa_U["default"] * layer.sorsa_S["default"]) @ layer.sorsa_V["default"]
            error = (block.double() - (u[:, :4] * s[:4]) @ v[:4]).norm() / s[:4].norm()
            assert error < (4e-2 if warm else 1e-5), (layer.module_name, warm)


def dequantised(base: nn.Module) -> dict[str, torch.Tensor]:
    import bitsandbytes as bnb
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    found = {}
    for name, module in base.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            found[name] = dequantize_4bit(module.weight.data, module.weight.quant_state)
        elif isinstance(module, bnb.nn.Linear8bitLt):
            scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            found[name] = int8_vectorwise_dequant(module.weight.data, scales)
    return found


@pytest.mark.parametrize("warm", [False, True])
def test_merge_into_8_bits(tmp_path, warm):
    model = adapted(tmp_path, "8bit")
    expected = outputs(model, LLAMA)
    if not warm:
        model = adapted(tmp_path, "8bit")
    plain = outputs(quantized_llama(tmp_path / "dense", "8bit"), LLAMA)
    model.merge_adapter()
    change = (expected - plain).abs().max()
    assert (outputs(model, LLAMA) - expected).abs().max() < 0.1 * change
    model.unmerge_adapter()
    assert (outputs(model, LLAMA) - expected).abs().max() < 0.1 * change


@pytest.mark.parametrize("warm", [False, True])
def test_dequantised_merge_keeps_the_update(kind, tmp_path, warm):
    model = adapted(tmp_path, kind)
    expected = outputs(model, LLAMA)
    plain = outputs(quantized_llama(tmp_path / "dense", kind), LLAMA)
    if not warm:
        model = adapted(tmp_path, kind)
    merged = model.merge_and_unload(dequantize=True, dtype=torch.float32)
    dense = [m for name, m in merged.named_modules() if name.rsplit(".", 1)[-1] in TARGETS]
    assert dense and all(type(m) is nn.Linear and m.weight.dtype == torch.float32 for m in dense)
    # the packed kernels round activations (8 bits) or products (bfloat16), the dense layer does not
    assert (outputs(merged, LLAMA) - expected).abs().max() < 0.06 * (expected - plain).abs().max()


@pytest.mark.filterwarnings("ignore:Merge.*module")
def test_merging_into_4_bits_says_what_it_loses(tmp_path):
    model = adapted(tmp_path, "nf4", size=0.003)
    with pytest.warns(UserWarning, match="(?s)lost.*rounding.*dequantize=True"):
        model.merge_and_unload()


def test_unadapted_layers_stay_packed_after_a_dequantised_merge(kind, tmp_path):
    import bitsandbytes as bnb

    merged = adapted(tmp_path, kind).merge_and_unload(dequantize=True)
    packed = bnb.nn.Linear8bitLt if kind == "8bit" else bnb.nn.Linear4bit
    for name, module in merged.named_modules():
        if name.endswith("k_proj"):
            assert isinstance(module, packed)
        if name.rsplit(".", 1)[-1] in TARGETS:
            assert module.weight.dtype == torch.bfloat16


def test_a_quantised_layer_is_recognised_by_its_class_not_by_its_dtype(tmp_path):
    """4-bit weights with a floating-point storage type look like dense float tensors."""
    import bitsandbytes as bnb

    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    layer = bnb.nn.Linear4bit(
        64, 64, bias=False, quant_type="nf4", quant_storage=torch.float32, compute_dtype=torch.float32
    )
    layer.load_state_dict({"weight": weight})
    base = nn.ModuleDict({"linear": layer.to("cpu")})
    assert base["linear"].weight.dtype == torch.float32 and base["linear"].weight.shape != weight.shape
    model = get_peft_model(base, SorsaConfig(r=4, target_modules=["linear"]))
    (adapted_layer,) = layers_of(model)
    assert isinstance(adapted_layer, SorsaLinear4bit)
    assert adapted_layer.sorsa_U["default"].shape == (64, 4)
    dense = dequantised(base)["linear.base_layer"]
    assert (torch.linalg.svdvals(dense)[:4] - adapted_layer.sorsa_S["default"]).abs().max() < 1e-4
