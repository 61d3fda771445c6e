# SPDX-License-Identifier: Apache-2.0
"""Precomputed decompositions: one file for every rank, checked against the base model, and its command."""

import json

import pytest
import torch
from peft import get_peft_model
from safetensors import safe_open
from typer.testing import CliRunner

from eigenhub.tuners.sorsa import SorsaConfig, build_svd_cache
from eigenhub.tuners.sorsa.commands import app
from tests.support.devices import require_bitsandbytes
from tests.support.models import tiny_gpt2, tiny_llama, tiny_vit
from tests.tuners.sorsa.helpers import FROZEN, TRAINED, adapted_llama, layers_of, logits
from tests.tuners.sorsa.test_checkpoint import counted_svds


@pytest.fixture
def cache(tmp_path):
    return build_svd_cache(tiny_llama(), tmp_path, r_max=8, target_modules=["q_proj", "v_proj"], progressbar=False)


@pytest.mark.parametrize("r", [1, 2, 8])
def test_serves_every_rank_without_decomposing(cache, r, monkeypatch):
    expected = adapted_llama(r=r)
    with counted_svds(monkeypatch) as calls:
        model = adapted_llama(r=r, svd_cache=str(cache))
    assert calls == []
    for found, reference in zip(layers_of(model), layers_of(expected), strict=True):
        for key in (*TRAINED, *FROZEN):
            torch.testing.assert_close(
                getattr(found, key)["default"], getattr(reference, key)["default"], rtol=1e-5, atol=1e-5
            )
    assert torch.equal(logits(model), logits(tiny_llama()))


def test_content_and_metadata(cache):
    assert cache.name == "svd_cache.safetensors" and [path.name for path in cache.parent.iterdir()] == [cache.name]
    with safe_open(cache, framework="pt") as file:
        metadata, keys = file.metadata(), set(file.keys())
        u = file.get_tensor("model.layers.0.self_attn.q_proj.U")
        assert u.shape == (16, 8) and u.dtype == torch.float32
    assert len(keys) == 4 * 3
    assert metadata["driver"] == "auto" and metadata["r_max"] == "8"
    assert set(json.loads(metadata["fingerprints"])) == {key.rsplit(".", 1)[0] for key in keys}


def test_folder_file_and_conv1d(tmp_path):
    path = build_svd_cache(
        tiny_gpt2(), tmp_path / "mine.safetensors", r_max=3, target_modules=["c_attn"], progressbar=False
    )
    assert path == tmp_path / "mine.safetensors"
    model = get_peft_model(tiny_gpt2(), SorsaConfig(r=2, target_modules=["c_attn"], svd_cache=str(path)))
    exact = get_peft_model(tiny_gpt2(), SorsaConfig(r=2, target_modules=["c_attn"]))
    for found, reference in zip(layers_of(model), layers_of(exact), strict=True):
        torch.testing.assert_close(found.sorsa_V["default"], reference.sorsa_V["default"], rtol=1e-5, atol=1e-5)


def test_default_and_all_linear_targets(tmp_path):
    for targets, count in ((None, 4), ("all-linear", 14)):
        path = build_svd_cache(tiny_llama(), tmp_path, r_max=2, target_modules=targets, progressbar=False)
        model = get_peft_model(tiny_llama(), SorsaConfig(r=2, target_modules=targets, svd_cache=str(tmp_path)))
        with safe_open(path, framework="pt") as file:
            assert len(file.keys()) == 3 * count == 3 * len(layers_of(model))


def test_the_cache_is_not_part_of_the_adapter(cache, tmp_path):
    model = adapted_llama(svd_cache=str(cache))
    model.save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["svd_cache"] is None


def refused(match: str, **config) -> None:
    base = config.pop("base", None) or tiny_llama()
    names = list(base.state_dict())
    with pytest.raises(ValueError, match=match):
        adapted_llama(base=base, **config)
    assert list(base.state_dict()) == names


def test_what_does_not_fit_is_refused(cache, tmp_path):
    refused("(?s)keeps 8 triplets.*r.=9", r=9, svd_cache=str(cache))
    refused("no factors for module.*o_proj", svd_cache=str(cache), target_modules=["o_proj"])
    refused("not the one", svd_cache=str(cache), base=tiny_llama(seed=1))
    (tmp_path / "empty").mkdir()
    refused("folder without", svd_cache=str(tmp_path / "empty"))
    refused("neither a file, a folder nor a Hub repository", svd_cache=str(tmp_path / "absent"))
    torn = tmp_path / "torn.safetensors"
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, torn)
    refused("not a cache", svd_cache=str(torn))


def test_a_randomised_cache_does_not_serve_files_without_initial_factors(tmp_path):
    path = build_svd_cache(
        tiny_llama(), tmp_path, r_max=4, target_modules=["q_proj"], svd_driver="randomized", progressbar=False
    )
    refused("(?s)randomized.*exact", svd_cache=str(path), save_init=False, target_modules=["q_proj"])
    adapted_llama(svd_cache=str(path), target_modules=["q_proj"])


def test_bad_requests(tmp_path):
    with pytest.raises(ValueError, match="matches no linear layer"):
        build_svd_cache(tiny_llama(), tmp_path, target_modules=["absent"], progressbar=False)
    base = tiny_llama()
    with torch.no_grad():
        base.model.layers[0].self_attn.q_proj.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.q_proj"):
        build_svd_cache(base, tmp_path, target_modules=["q_proj"], progressbar=False)
    assert list(tmp_path.iterdir()) == []


@require_bitsandbytes
def test_a_cache_of_the_dense_base_serves_a_quantised_one(tmp_path):
    from tests.common.tuner_quantized import quantized_llama

    quantized = quantized_llama(tmp_path / "dense", "nf4")
    dense = tiny_llama(hidden_size=64, intermediate_size=64)
    path = build_svd_cache(dense, tmp_path / "cache", r_max=4, target_modules=["q_proj"], progressbar=False)
    plain = logits(quantized)
    model = get_peft_model(quantized, SorsaConfig(r=2, target_modules=["q_proj"], svd_cache=str(path)))
    torch.testing.assert_close(logits(model.eval()), plain, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- the command
@pytest.mark.parametrize(
    ("factory", "targets"),
    [(tiny_llama, ["q_proj", "v_proj"]), (tiny_vit, ["q_proj", "fc1"])],
    ids=["causal-lm", "vit"],
)
def test_command(factory, targets, tmp_path):
    """Names in the cache are those of the model that a user adapts, its head included."""
    factory().save_pretrained(tmp_path / "base")
    arguments = ["svd-cache", str(tmp_path / "base"), str(tmp_path / "cache"), "--r-max", "4"]
    result = CliRunner().invoke(app, [*arguments, "--target-modules", ",".join(targets)])
    assert result.exit_code == 0, result.output
    path = tmp_path / "cache" / "svd_cache.safetensors"
    assert str(path) in result.output.replace("\n", "")
    config = SorsaConfig(r=4, target_modules=targets, svd_cache=str(path))
    assert layers_of(get_peft_model(type(factory()).from_pretrained(tmp_path / "base"), config))


def test_command_with_a_bad_driver(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "base")
    result = CliRunner().invoke(
        app, ["svd-cache", str(tmp_path / "base"), str(tmp_path / "cache"), "--driver", "exact"]
    )
    assert result.exit_code != 0 and not (tmp_path / "cache").exists()
