# SPDX-License-Identifier: Apache-2.0
"""mode="residual": the initial block out of the weight, one low-rank product, the same file and the same training."""

import pytest
import torch
from peft import PeftModel, get_peft_model

from eigenhub.tuners.sorsa import SorsaConfig, SorsaTrainer, apply_regularizer, export_lora
from tests.common.tuner_cases import CASES, loss_of, move, outputs, weights_of
from tests.support.devices import require_bitsandbytes
from tests.support.models import tiny_llama
from tests.tuners.sorsa.helpers import TRAINED, adapted_llama, layers_of, logits


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("alpha", [None, 5.0])
def test_computes_the_same_as_the_delta_form(case, alpha):
    base = case.model()
    before, plain = weights_of(base), outputs(base, case)
    models = []
    for mode in ("delta", "residual"):
        config = SorsaConfig(r=2, alpha=alpha, target_modules=case.targets, mode=mode)
        models.append(get_peft_model(case.model(), config).eval())
    delta, residual = models
    torch.testing.assert_close(outputs(residual, case), plain, rtol=1e-4, atol=1e-5)
    for model in models:
        move(model, "sorsa_")
    torch.testing.assert_close(outputs(residual, case), outputs(delta, case), rtol=1e-4, atol=1e-5)
    with residual.disable_adapter():
        torch.testing.assert_close(outputs(residual, case), plain, rtol=1e-4, atol=1e-5)
    grads = []
    for model in models:
        model.train()
        loss_of(model, case).backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    for found, expected in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    for name, tensor in weights_of(residual.unload()).items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-5, atol=1e-6)


def test_the_weight_is_the_residual_and_one_product_is_left(monkeypatch):
    model = adapted_llama(mode="residual")
    pretrained = tiny_llama().model.layers[0].self_attn.q_proj.weight
    layer = layers_of(model)[0]
    u, s, v = torch.linalg.svd(pretrained.detach().double())
    expected = (u[:, 2:] * s[2:]) @ v[2:]
    torch.testing.assert_close(layer.base_layer.weight.double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.pretrained_weight(), pretrained.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [None, 4.0])
def test_float64_trajectories_agree(alpha):
    """Twenty AdamW steps with the penalty: the two forms are the same function."""
    ends = []
    for mode in ("delta", "residual"):
        model = adapted_llama(base=tiny_llama().double(), mode=mode, alpha=alpha, reg_weight=0.5).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
        ids = torch.arange(4, 36).view(4, 8)
        for _ in range(20):
            model(ids, labels=ids).loss.backward()
            apply_regularizer(model)
            optimizer.step()
            optimizer.zero_grad()
        ends.append([getattr(layer, key)["default"].detach() for layer in layers_of(model) for key in TRAINED])
    for found, expected in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_files_and_export_are_those_of_the_delta_form(tmp_path):
    model = adapted_llama(moved=True, mode="residual")
    expected = logits(model)
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(tiny_llama(), tmp_path / "adapter")
    assert loaded.peft_config["default"].mode == "delta"
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-4, atol=1e-5)
    export_lora(model, tmp_path / "lora")
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(tiny_llama(), tmp_path / "lora")), expected, rtol=1e-4, atol=1e-5
    )
    config = SorsaConfig.from_pretrained(tmp_path / "adapter")
    config.mode = "residual"
    folded = PeftModel.from_pretrained(tiny_llama(), tmp_path / "adapter", config=config)
    torch.testing.assert_close(logits(folded), expected, rtol=1e-4, atol=1e-5)
    assert all(layer.folded == "default" for layer in layers_of(folded))


def test_merge_unmerge_and_unload():
    expected_weights = weights_of(tiny_llama())
    model = adapted_llama(moved=True, mode="residual")
    expected = logits(model)
    for _ in range(2):
        model.merge_adapter()
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
        model.unmerge_adapter()
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    model.merge_adapter()
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(tiny_llama()), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    merged = adapted_llama(moved=True, mode="residual").merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    model.delete_adapter("default")
    for name, tensor in weights_of(model.unload()).items():
        torch.testing.assert_close(tensor, expected_weights[name], rtol=1e-5, atol=1e-6)


def test_mixed_batches():
    model = adapted_llama(moved=True, mode="residual")
    plain, moved = logits(tiny_llama()), logits(model)
    found = logits(model, adapter_names=["__base__", "default"])
    torch.testing.assert_close(found[0], plain[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], moved[1], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*tie")
def test_what_does_not_allow_it_is_refused():
    def refused(base, match, **config):
        before = weights_of(base)
        with pytest.raises(ValueError, match=match):
            get_peft_model(base, SorsaConfig(**({"r": 2, "target_modules": ["q_proj"], "mode": "residual"} | config)))
        after = weights_of(base)
        assert after.keys() == before.keys() and all(torch.equal(after[k], v) for k, v in before.items())

    refused(tiny_llama(tie_word_embeddings=True), "(?s)residual.*lm_head.*shares", target_modules=["lm_head"])
    refused(tiny_llama(), "(?s)residual.*shares", layer_replication=[(0, 2), (0, 2)])
    model = adapted_llama(moved=True, mode="residual")
    expected = logits(model)
    with pytest.raises(ValueError, match="single adapter"):
        model.add_adapter("second", SorsaConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="single adapter"):
        model.base_model.add_weighted_adapter(["default"], [1.0], "second")
    delta = adapted_llama(moved=True)
    with pytest.raises(ValueError, match="single adapter"):
        delta.add_adapter("second", SorsaConfig(r=2, target_modules=["q_proj"], mode="residual"))
    assert torch.equal(logits(model), expected)


@require_bitsandbytes
def test_quantised_weights_are_refused(tmp_path):
    from tests.common.tuner_quantized import quantized_llama

    base = quantized_llama(tmp_path / "dense", "8bit")
    with pytest.raises(ValueError, match="(?s)residual.*quantised"):
        get_peft_model(base, SorsaConfig(r=2, target_modules=["q_proj"], mode="residual"))


def test_under_the_trainer(tmp_path):
    from tests.tuners.sorsa.trainers import factors, trainer

    ends = []
    for mode in ("delta", "residual"):
        model = adapted_llama(moved=True, mode=mode, reg_weight=2.0)
        trainer(model, tmp_path, SorsaTrainer).train()
        ends.append(factors(model))
    assert ends[1] == pytest.approx(ends[0], rel=1e-4, abs=1e-5)
