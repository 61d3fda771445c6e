# SPDX-License-Identifier: Apache-2.0
"""Adapter files: no SVD at load, the fingerprint of the base, files without initial factors, other dtypes."""

import json
from contextlib import contextmanager

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from eigenhub.tuners.sorsa import SorsaConfig
from tests.common.tuner_cases import move
from tests.support.models import tiny_gpt2, tiny_llama
from tests.tuners.sorsa.helpers import FROZEN, adapted_llama, layers_of, logits


@contextmanager
def counted_svds(monkeypatch):
    """Counts every decomposition that torch can be asked for, so that no module path can hide one."""
    calls = []
    with monkeypatch.context() as patch:
        for name in ("svd", "svdvals", "eigh", "qr"):
            original = getattr(torch.linalg, name)
            patch.setattr(torch.linalg, name, lambda *a, _f=original, _n=name, **k: (calls.append(_n), _f(*a, **k))[1])
        yield calls


@pytest.fixture
def saved(tmp_path):
    model = adapted_llama(moved=True)
    model.save_pretrained(tmp_path)
    return tmp_path, logits(model)


def edit_config(folder, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, change) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_loading_decomposes_nothing(saved, monkeypatch, low_cpu_mem_usage):
    folder, expected = saved
    base = tiny_llama()
    with counted_svds(monkeypatch) as calls:
        model = PeftModel.from_pretrained(base, folder, low_cpu_mem_usage=low_cpu_mem_usage)
        assert torch.equal(logits(model), expected)
        model.base_model.regularization_loss()
        model.load_adapter(folder, "twice", low_cpu_mem_usage=low_cpu_mem_usage)
        model.set_adapter("twice")
        assert torch.equal(logits(model), expected)
        other = tiny_llama()
        other.load_adapter(str(folder))
        assert torch.equal(logits(other), expected)
    assert calls == []
    with counted_svds(monkeypatch) as calls:
        adapted_llama()
    assert len(calls) >= 4, "the counter does not count"


def test_the_saved_configuration_waits_for_weights(saved):
    folder, _ = saved
    stored = json.loads((folder / "adapter_config.json").read_text())
    assert stored["init_weights"] == "checkpoint" and stored["peft_type"] == "SORSA"
    assert SorsaConfig().to_dict()["init_weights"] == "checkpoint" and SorsaConfig().init_weights is True


def test_a_fresh_model_from_a_saved_configuration_initialises(saved):
    folder, _ = saved
    config = PeftConfig.from_pretrained(folder)
    for first_use in ("forward", "merge", "penalty", "save", "delta"):
        base = tiny_llama()
        plain = logits(base)
        model = get_peft_model(base, config)
        if first_use == "merge":
            model.merge_adapter()
            torch.testing.assert_close(logits(model), plain, rtol=1e-5, atol=1e-6)
            continue
        if first_use == "penalty":
            assert model.base_model.regularization_loss() < 1e-4
        elif first_use == "save":
            model.save_pretrained(folder / "again")
            assert all(torch.isfinite(t).all() for t in load_file(folder / "again/adapter_model.safetensors").values())
        elif first_use == "delta":
            assert layers_of(model)[0].get_delta_weight("default").abs().max() == 0
        assert torch.equal(logits(model), plain)
        assert not any(layer.pending for layer in layers_of(model))


def test_optimizers_made_before_the_first_use_hold_the_parameters(saved):
    folder, _ = saved
    model = get_peft_model(tiny_llama(), PeftConfig.from_pretrained(folder))
    held = [p for p in model.parameters() if p.requires_grad]
    logits(model)
    assert [id(p) for p in held] == [id(p) for p in model.parameters() if p.requires_grad]
    assert all(torch.isfinite(p).all() for p in held)


# ---------------------------------------------------------------- the base model
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_another_base_model_is_refused(saved, low_cpu_mem_usage):
    folder, _ = saved
    with pytest.raises(ValueError, match=r"(?s)layers\.\d.*not the one.*base_fingerprint=None"):
        model = PeftModel.from_pretrained(tiny_llama(seed=1), folder, low_cpu_mem_usage=low_cpu_mem_usage)
        logits(model)
    edit_config(folder, base_fingerprint=None)
    forced = PeftModel.from_pretrained(tiny_llama(seed=1), folder, low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.isfinite(logits(forced)).all()


def test_another_base_model_through_transformers_is_refused(saved):
    folder, _ = saved
    model = tiny_llama(seed=1)
    with pytest.raises(ValueError, match="not the one"):
        model.load_adapter(str(folder))
        logits(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_base_in_another_dtype_is_accepted(saved, dtype):
    folder, expected = saved
    model = PeftModel.from_pretrained(tiny_llama().to(dtype), folder)
    assert (logits(model).float() - expected).abs().max() < 0.02


def test_loading_while_another_adapter_is_merged(saved):
    folder, expected = saved
    model = adapted_llama(moved=True)
    model.merge_adapter()
    model.load_adapter(folder, "loaded")
    model.unmerge_adapter()
    model.set_adapter("loaded")
    torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-6)


def test_a_wrong_rank_is_refused(saved):
    folder, _ = saved
    edit_config(folder, r=3)
    with pytest.raises(RuntimeError, match="(?s)size mismatch.*sorsa_U"):
        PeftModel.from_pretrained(tiny_llama(), folder)


def test_a_checkpoint_that_lacks_tensors_is_refused(saved):
    folder, _ = saved
    edit_weights(
        folder, lambda state: {k: v for k, v in state.items() if "layers.1.self_attn.q_proj.sorsa_V0" not in k}
    )
    with pytest.raises(ValueError, match=r"(?s)lacks \['sorsa_V0'\].*layers\.1\.self_attn\.q_proj"):
        logits(PeftModel.from_pretrained(tiny_llama(), folder))


def test_a_checkpoint_without_any_trained_tensor_is_refused(saved):
    folder, _ = saved
    edit_weights(
        folder, lambda state: {k: v for k, v in state.items() if not k.endswith(("sorsa_U", "sorsa_S", "sorsa_V"))}
    )
    with pytest.raises(ValueError, match="lacks"):
        logits(PeftModel.from_pretrained(tiny_llama(), folder))


# ---------------------------------------------------------------- save_init=False
def test_files_without_initial_factors(tmp_path):
    model = adapted_llama(moved=True, save_init=False)
    model.save_pretrained(tmp_path)
    expected = logits(model)
    keys = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert len(keys) == 3 * 4 and not any(f".{name}" in key for key in keys for name in FROZEN)
    for low_cpu_mem_usage in (False, True):
        loaded = PeftModel.from_pretrained(tiny_llama(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
        torch.testing.assert_close(logits(loaded), expected, rtol=1e-5, atol=1e-6)
        assert not any(p.requires_grad for p in loaded.parameters())
    native = tiny_llama()
    native.load_adapter(str(tmp_path))
    torch.testing.assert_close(logits(native), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="not the one"):
        logits(PeftModel.from_pretrained(tiny_llama(seed=1), tmp_path))
    again = PeftModel.from_pretrained(tiny_llama(), tmp_path, is_trainable=True)
    again.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again/adapter_model.safetensors").keys() == keys


def test_rebuilding_while_another_adapter_is_merged(tmp_path):
    """The missing factors come from the pretrained weight, not from what is merged into it."""
    model = adapted_llama(moved=True, save_init=False)
    model.save_pretrained(tmp_path)
    expected = logits(model)
    model.merge_adapter()
    model.load_adapter(tmp_path, "loaded")
    model.unmerge_adapter()
    model.set_adapter("loaded")
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)


def test_rebuilding_on_conv1d(tmp_path):
    model = get_peft_model(tiny_gpt2(), SorsaConfig(r=2, target_modules=["c_attn"], save_init=False)).eval()
    move(model, "sorsa_")
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_gpt2(), tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-5, atol=1e-6)


def test_no_initial_factors_with_a_randomised_driver_is_refused():
    with pytest.raises(ValueError, match="(?s)save_init=False.*exact driver"):
        SorsaConfig(svd_driver="randomized", save_init=False)


def test_half_precision_factors_round_trip(tmp_path):
    base = tiny_llama().bfloat16()
    with pytest.warns(UserWarning, match="half precision"):
        model = get_peft_model(base, SorsaConfig(r=2, target_modules=["q_proj"]), autocast_adapter_dtype=False)
    move(model, "sorsa_")
    model.eval().save_pretrained(tmp_path)
    assert {t.dtype for t in load_file(tmp_path / "adapter_model.safetensors").values()} == {torch.bfloat16}
    with pytest.warns(UserWarning, match="half precision"):
        loaded = PeftModel.from_pretrained(tiny_llama().bfloat16(), tmp_path, autocast_adapter_dtype=False)
    assert torch.equal(logits(loaded), logits(model))
    wide = PeftModel.from_pretrained(tiny_llama().bfloat16(), tmp_path)
    assert layers_of(wide)[0].sorsa_U["default"].dtype == torch.float32
    assert (logits(wide).float() - logits(model).float()).abs().max() < 0.02


def test_ordinary_state_dicts_of_torch(tmp_path):
    model = adapted_llama(moved=True)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    fresh = adapted_llama()
    fresh.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(logits(fresh), logits(model))
    waiting = get_peft_model(
        tiny_llama(), SorsaConfig(r=2, target_modules=["q_proj", "v_proj"], init_weights="checkpoint")
    )
    waiting.load_state_dict(model.state_dict())
    assert not any(layer.pending for layer in layers_of(waiting))
    assert torch.equal(logits(waiting.eval()), logits(model))


def test_hotswapping_is_refused_clearly(saved):
    from peft.utils.hotswap import hotswap_adapter

    folder, expected = saved
    model = PeftModel.from_pretrained(tiny_llama(), folder)
    with pytest.raises((ValueError, NotImplementedError), match="(?i)sorsa"):
        hotswap_adapter(model, folder, adapter_name="default")
    assert torch.equal(logits(model), expected)
