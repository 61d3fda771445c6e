# SPDX-License-Identifier: Apache-2.0
"""Adapters that are named or uploaded: refactored against dense algebra, told as their files say, and refused in words."""

import math
import pickle
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from eigenhub.federated import pair_lora_keys
from tests.spaces.conftest import modules_of
from tests.spaces.tiny_lora import PREFIX, lora_state, save_lora


@pytest.fixture(scope="module")
def fedsvd():
    with modules_of("fedsvd") as modules:
        yield modules


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_lora(tmp_path_factory.mktemp("lora"), with_run=True)


def file_of(folder):
    return str(folder / "adapter_model.safetensors")


def test_a_refactored_file_takes_the_place_of_the_old_one(fedsvd, folder):
    path, layers = fedsvd.api.refactor(file_of(folder))
    old, new = load_file(file_of(folder)), load_file(path)
    assert path != file_of(folder) and path.endswith("/adapter_model.safetensors")
    assert {key: (t.shape, t.dtype) for key, t in new.items()} == {key: (t.shape, t.dtype) for key, t in old.items()}
    assert new["base_model.model.classifier.weight"].equal(old["base_model.model.classifier.weight"])
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "author": "tester"}
    for layer, (name, pair) in zip(layers, pair_lora_keys(old).items(), strict=True):
        a, b = (old[key].double() for key in pair)
        new_a, new_b = (new[key].double() for key in pair)
        assert_close(new_b @ new_a, b @ a, rtol=0, atol=1e-5)
        assert_close(new_a @ new_a.mT, torch.eye(4).double(), rtol=0, atol=1e-6)
        assert layer["name"] == name and layer["shape"] == [len(b), a.shape[1]] and layer["rank"] == 4
        assert layer["singular_values"] == pytest.approx(torch.linalg.svdvals(b @ a)[:4].tolist(), abs=1e-5)
        assert layer["kappa"] == pytest.approx(torch.linalg.cond(a).item(), rel=1e-9)
        assert layer["new_kappa"] == pytest.approx(torch.linalg.cond(new_a).item(), rel=1e-9)
        error = ((new_b @ new_a - b @ a).norm() / (b @ a).norm()).item()
        assert layer["error"] == pytest.approx(error, rel=1e-6) and error < 1e-6
    assert [layer["effective_rank"] for layer in layers] == [4, 2]


def test_half_precision_keeps_its_dtype(fedsvd, tmp_path):
    state = {key: tensor.bfloat16() for key, tensor in lora_state().items()}
    save_file(state, tmp_path / "half.safetensors")
    path, layers = fedsvd.api.refactor(str(tmp_path / "half.safetensors"))
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.bfloat16}
    assert all(1e-6 < layer["error"] < 0.02 for layer in layers)


def test_an_adapter_that_does_nothing_yet(fedsvd, tmp_path):
    state = lora_state() | {
        f"{PREFIX}.0.lora_B.weight": torch.zeros(12, 4),
        f"{PREFIX}.1.lora_A.weight": torch.zeros(4, 12),
    }
    save_file(state, tmp_path / "fresh.safetensors")
    _, (first, second) = fedsvd.api.refactor(str(tmp_path / "fresh.safetensors"))
    assert first["effective_rank"] == second["effective_rank"] == 0 and first["error"] == second["error"] == 0
    assert second["kappa"] is None and first["new_kappa"] == pytest.approx(1, abs=1e-5)
    adapter = fedsvd.adapters.load_file(tmp_path / "fresh.safetensors")
    _, layers = fedsvd.refactoring.refactor(adapter)
    assert math.isinf(layers[1].kappa) and "inf" in fedsvd.adapter_reports.layer_table(layers)
    figure = fedsvd.figures.condition_figure([layer.kappa for layer in layers], [1.0, 1.0])
    assert math.isnan(figure.axes[0].lines[0].get_ydata()[1])


def test_what_lies_beside_an_adapter_is_told(fedsvd, folder):
    found = fedsvd.api.inspect(f" {folder} ")
    assert found["run"]["method"] == "ffa" and found["run"]["dp"]["target_epsilon"] == 3.0
    assert found["ledger"] == [
        {
            "client": "clinic",
            "epsilon": 2.5,
            "num_examples": 400,
            "noise_multiplier": 0.9,
            "sample_rate": 0.08,
            "steps": 20,
            "participations": 2,
            "max_participations": 3,
        }
    ]
    assert "epsilon = 2.5" in found["claim"]
    html = fedsvd.adapter_reports.provenance(fedsvd.adapters.load_adapter(str(folder)))
    assert "LoRA of rank 4, alpha 8, on 0, 1 of tester/base." in html
    assert "Federated by FFA-LoRA: 5 rounds of 10 local steps, 50% of the clients" in html
    assert "weighted by equal shares, with differential privacy" in html
    assert "not verified here" in html and "<td>clinic</td><td>2.500</td>" in html and "2 of 3" in html


def test_what_strangers_write_is_text(fedsvd, folder):
    """Names of clients and models come from files of others."""
    adapter = fedsvd.adapters.load_adapter(str(folder))
    adapter.lora["base_model_name_or_path"] = "<script>alert(1)</script>"
    adapter.ledger.accounts = {"<img src=x>": adapter.ledger.accounts["clinic"]}
    html = fedsvd.adapter_reports.provenance(adapter)
    assert "<script>" not in html and "<img" not in html and "&lt;img src=x&gt;" in html


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.bin", pickle.dumps({"a": 1}), "model.bin is no .safetensors file; pickled weights .* are not opened"),
        ("model.safetensors", pickle.dumps({"a": 1}), "no safetensors file inside, or a damaged one"),
        ("model.safetensors", b"", "no safetensors file inside"),
    ],
)
def test_files_that_are_not_safetensors_are_refused(fedsvd, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(gr.Error, match=f"This file cannot be refactored: .*{said}"):
        fedsvd.api.refactor(str(tmp_path / name))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"weight": torch.zeros(2, 2)}, "the state dict holds no LoRA factors"),
        ({"q.lora_A.weight": torch.zeros(2, 5)}, "layer `q` has no lora_B"),
        ({"q.lora_A.weight": torch.zeros(300, 400), "q.lora_B.weight": torch.zeros(4, 300)}, "rank 300; .* up to 256"),
        ({"q.lora_A.weight": torch.zeros(5, 4), "q.lora_B.weight": torch.zeros(4, 5)}, "rank 5; .* up to 4"),
        ({"q.lora_A.weight": torch.full((2, 5), math.nan), "q.lora_B.weight": torch.ones(4, 2)}, "layer `q`"),
        ({"q.lora_magnitude_vector": torch.zeros(3)}, "DoRA"),
    ],
)
def test_files_without_a_plain_adapter_are_refused(fedsvd, tmp_path, state, said):
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(gr.Error, match=f"This file cannot be refactored: .*{said}"):
        fedsvd.api.refactor(str(tmp_path / "odd.safetensors"))


def test_large_files_are_refused_before_they_are_read(fedsvd, folder, monkeypatch):
    monkeypatch.setattr(fedsvd.adapters, "MAX_BYTES", 1000)
    monkeypatch.setattr(fedsvd.adapters, "safe_open", None)
    with pytest.raises(gr.Error, match="it has 0 MiB, this page takes up to 0"):
        fedsvd.api.refactor(file_of(folder))


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "Name an adapter"), (None, "Name an adapter"), ("/no/such/folder", "Cannot load '/no/such")],
)
def test_adapters_that_are_not_there(fedsvd, name, said):
    with pytest.raises(gr.Error, match=said):
        fedsvd.api.inspect(name)
    with pytest.raises(gr.Error, match="Upload an adapter_model.safetensors first"):
        fedsvd.api.refactor(None)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("privacy_ledger.json", "{}", "cannot be read as the privacy ledger"),
        ("fedsvd_config.json", '{"method": "fedprox"}', "`method` must be one of"),
        ("fedsvd_config.json", '{"colour": "red"}', "unknown settings colour"),
        ("adapter_config.json", "[]", "adapter_config.json must hold JSON of type dict"),
        ("adapter_config.json", "{", "Cannot load"),
        ("adapter_config.json", b"\xff\xfe", "adapter_config.json is not text in utf-8"),
        ("fedsvd_config.json", '{"a":' * 100_000, "fedsvd_config.json .* nested too deeply"),
    ],
)
def test_records_that_cannot_be_read_are_named(fedsvd, tmp_path, name, content, said):
    save_lora(tmp_path, with_run=True)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(gr.Error, match=said):
        fedsvd.api.inspect(str(tmp_path))


def test_a_folder_with_pickled_weights_is_refused(fedsvd, tmp_path):
    save_lora(tmp_path, weights="adapter_model.bin")
    with pytest.raises(gr.Error, match="there is no adapter_model.safetensors; pickled weights are not opened"):
        fedsvd.api.inspect(str(tmp_path))


def test_the_tab(fedsvd, folder, monkeypatch):
    tab = fedsvd.refactor_tab
    shown = tab.show(str(folder))
    summary, file, origin, layer, spectra, condition, table, kept = shown
    assert "rank 4" in summary and "2 to 4" in summary and file.endswith(".safetensors") and "FFA-LoRA" in origin
    assert layer.choices == [("encoder.0", "encoder.0"), ("encoder.1", "encoder.1")] and layer.value == "encoder.0"
    assert len(spectra.axes[0].lines) == 2 and len(condition.axes[0].lines) == 2 and table.count("<tr>") == 3
    first, second = (line.get_color() for line in tab.show_layer(kept, "encoder.1").axes[0].lines)
    assert (first, second) == (fedsvd.figures.GREY, fedsvd.figures.PALETTE[0])
    assert tab.show_layer(None, "encoder.1") == gr.skip()
    assert "A file alone" in tab.show_file(file_of(folder))[2]
    assert tab.begin(kept, str(folder)) == (gr.skip(),) * 8
    assert tab.begin(None, str(folder))[2] == origin


def test_the_last_run_is_the_last_finished_one(fedsvd):
    runs = [{"files": ["/a/adapter_model.safetensors"]}, {"files": ["/b/x", "/b/y"]}, {"files": []}]
    assert fedsvd.refactor_tab.take_last(runs) == "/b"
    with pytest.raises(gr.Error, match="No run has finished yet"):
        fedsvd.refactor_tab.take_last([{"files": []}])


def test_embedded_adapters_are_federated_once(fedsvd, tmp_path, monkeypatch):
    monkeypatch.setenv("EIGENHUB_HOME", str(tmp_path))
    module = fedsvd.embedded_adapters
    monkeypatch.setattr(module, "pretrained_vit_folder", lambda: SimpleNamespace(name="vit"))
    monkeypatch.setattr(module, "new_trainer", tiny_trainer)
    found = module.embedded_folder(fedsvd.names.EMBEDDED)
    assert load_file(found / "adapter_model.safetensors").keys() == lora_state().keys()
    monkeypatch.delattr(module, "new_trainer")
    assert module.embedded_folder(fedsvd.names.EMBEDDED) == found
    assert set(module.RUNS) == set(fedsvd.names.ADAPTERS)


def tiny_trainer(settings, folder, use_cpu):
    """Stands for the trainer of an embedded run, which takes several seconds."""
    assert settings.method == "fedavg" and use_cpu
    return SimpleNamespace(train=lambda: None, save_pretrained=save_lora)
