# SPDX-License-Identifier: Apache-2.0
"""A base model quantised by bitsandbytes to 8 and to 4 bits."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.common.tuner_cases import (
    LLAMA,
    adapter_parameters,
    assert_same_tensors,
    loss_of,
    move,
    outputs,
    weights_of,
)
from tests.support.devices import require_bitsandbytes
from tests.support.models import tiny_llama


QUANTIZATION = {
    "8bit": {"load_in_8bit": True},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
}


def quantized_llama(folder: Path, kind: str):
    """The tiny Llama, saved once and loaded in a quantised form.

    Rows of one block of 64: bitsandbytes rearranges 4-bit weights at the first inference on some CPUs, and with several
    blocks per row its `state_dict` brings their scales back in another order.
    """
    if not folder.exists():
        tiny_llama(hidden_size=64, intermediate_size=64).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**QUANTIZATION[kind]), device_map="cpu", dtype=torch.float32
    )


class QuantizedBase:
    """Mixin of `TunerTester`: packed weights."""

    @pytest.fixture(params=list(QUANTIZATION))
    def quantized_base(self, request: pytest.FixtureRequest, tmp_path: Path):
        return lambda: quantized_llama(tmp_path / "dense", request.param)

    @require_bitsandbytes
    def test_quantized_base(self, quantized_base, tmp_path):
        base = quantized_base()
        outputs(base, LLAMA)  # the first inference rounds the scales of 4-bit weights
        before = weights_of(base)
        plain = outputs(base, LLAMA)
        model = get_peft_model(base, self.make_config(LLAMA, target_modules=self.quantized_targets))
        assert {p.dtype for p in adapter_parameters(model, self.prefix).values()} == {torch.float32}
        torch.testing.assert_close(outputs(model, LLAMA), plain, rtol=1e-5, atol=1e-5)
        move(model, self.prefix)
        model.save_pretrained(tmp_path / "adapter")
        expected = outputs(model, LLAMA)
        assert (expected - plain).abs().max() > 1e-3
        loaded = PeftModel.from_pretrained(quantized_base(), tmp_path / "adapter")
        assert torch.equal(outputs(loaded, LLAMA), expected)
        with model.disable_adapter():
            assert torch.equal(outputs(model, LLAMA), plain)
        assert_same_tensors(weights_of(model.unload()), before)

    @require_bitsandbytes
    def test_quantized_base_trains(self, quantized_base):
        """On a base without a previous inference: after one, bitsandbytes' 4-bit CPU kernel has no backward."""
        base = quantized_base()
        before = weights_of(base)
        model = get_peft_model(base, self.make_config(LLAMA, target_modules=self.quantized_targets)).train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=1e-2)
        losses = []
        for _ in range(4):
            losses.append(loss_of(model, LLAMA))
            losses[-1].backward()
            assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
            optimizer.step()
            optimizer.zero_grad()
        assert losses[-1] < losses[0]
        assert_same_tensors(weights_of(model.unload()), before)

    @require_bitsandbytes
    def test_quantized_adapter_on_the_dense_base(self, quantized_base, tmp_path):
        """Trained on a packed base, used on the full one: the usual way to serve such adapters."""
        config = self.make_config(LLAMA, target_modules=self.quantized_targets)
        model = get_peft_model(quantized_base(), config)
        move(model, self.prefix)
        model.save_pretrained(tmp_path / "adapter")
        dense = AutoModelForCausalLM.from_pretrained(tmp_path / "dense")
        plain = outputs(dense, LLAMA)
        loaded = PeftModel.from_pretrained(dense, tmp_path / "adapter")
        change = outputs(loaded, LLAMA) - plain
        assert change.abs().max() > 1e-3 and torch.isfinite(change).all()
