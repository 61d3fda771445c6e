# SPDX-License-Identifier: Apache-2.0
"""Plain LoRA out of SORSA: exact at twice the rank, compressed with the energy told, loadable without this package."""

import json

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from eigenhub.tuners.sorsa import SorsaConfig, export_checkpoint, export_lora
from tests.common.tuner_cases import CASES, LLAMA, move, outputs
from tests.support.devices import require_bitsandbytes
from tests.support.models import tiny_bert, tiny_llama
from tests.support.processes import run_python
from tests.tuners.sorsa.helpers import adapted_llama, layers_of, logits
from tests.tuners.sorsa.test_checkpoint import counted_svds, edit_config


def stock(folder, base=None) -> PeftModel:
    """What PEFT makes of an export."""
    model = PeftModel.from_pretrained(tiny_llama() if base is None else base, folder)
    assert isinstance(model.peft_config["default"], LoraConfig)
    return model


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("alpha", [None, 5.0])
def test_exact_export(case, alpha, tmp_path):
    model = get_peft_model(case.model(), SorsaConfig(r=2, alpha=alpha, target_modules=case.targets)).eval()
    move(model, "sorsa_")
    report = export_lora(model, tmp_path)
    assert report.path == tmp_path and report.rank == 4 and report.energy == 1.0
    assert set(report.energy_per_module) == {layer.module_name for layer in layers_of(model)}
    assert set(report.energy_per_module.values()) == {1.0}
    torch.testing.assert_close(
        outputs(stock(tmp_path, case.model()), case), outputs(model, case), rtol=1e-5, atol=1e-6
    )
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_the_exact_export_decomposes_nothing(tmp_path, monkeypatch):
    model = adapted_llama(moved=True)
    with counted_svds(monkeypatch) as calls:
        export_lora(model, tmp_path)
    assert calls == []


def test_patterns_layers_and_saved_modules_are_carried_over(tmp_path):
    config = SorsaConfig(
        r=2, target_modules=["query", "value"], rank_pattern={"value": 3}, alpha_pattern={"query": 5.0},
        layers_to_transform=[1], modules_to_save=["classifier"], task_type="SEQ_CLS",
    )  # fmt: skip
    model = get_peft_model(tiny_bert(), config).eval()
    move(model, "sorsa_")
    with torch.no_grad():
        model.base_model.classifier.modules_to_save["default"].weight.add_(0.3)
    report = export_lora(model, tmp_path)
    case = CASES[3]
    loaded = stock(tmp_path, tiny_bert())
    torch.testing.assert_close(outputs(loaded, case), outputs(model, case), rtol=1e-5, atol=1e-6)
    stored = loaded.peft_config["default"]
    assert stored.task_type == "SEQ_CLS" and stored.layers_to_transform == [1]
    ranks = {name: stored.rank_pattern.get(name, stored.r) for name in report.energy_per_module}
    assert sorted(ranks.values()) == [4, 6]


def test_regular_expressions_and_all_linear(tmp_path):
    for number, targets in enumerate((r".*layers\.1.*(q|o)_proj", "all-linear")):
        model = adapted_llama(moved=True, target_modules=targets)
        export_lora(model, tmp_path / str(number))
        assert relative_error(logits(stock(tmp_path / str(number))), logits(model)) < 1e-5


def test_replicated_layers(tmp_path):
    model = adapted_llama(moved=True, layer_replication=[(0, 2), (0, 2)])
    export_lora(model, tmp_path)
    found = logits(stock(tmp_path), use_cache=False)
    assert relative_error(found, logits(model, use_cache=False)) < 1e-5


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_compressed_export_is_the_best_of_its_rank_and_reports_the_energy(rank, tmp_path):
    model = adapted_llama(moved=True)
    report = export_lora(model, tmp_path, rank=rank)
    kept = total = 0.0
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    for layer in layers_of(model):
        delta = layer.get_delta_weight("default").detach().double()
        u, s, v = torch.linalg.svd(delta)
        prefix = f"base_model.model.{layer.module_name}"
        a, b = tensors[f"{prefix}.lora_A.weight"], tensors[f"{prefix}.lora_B.weight"]
        assert a.shape[0] == b.shape[1] == rank
        torch.testing.assert_close(b.double() @ a.double(), (u[:, :rank] * s[:rank]) @ v[:rank], rtol=0, atol=1e-6)
        share = (s[:rank].square().sum() / s.square().sum()).item()
        assert report.energy_per_module[layer.module_name] == pytest.approx(share, rel=1e-6)
        kept, total = kept + s[:rank].square().sum().item(), total + s.square().sum().item()
    assert report.rank == rank and report.energy == pytest.approx(kept / total, rel=1e-6)
    assert (report.energy > 0.999999) == (rank == 4)
    loaded = stock(tmp_path)
    assert torch.isfinite(logits(loaded)).all() and loaded.peft_config["default"].r == rank


def test_a_rank_between_the_size_of_the_weight_and_twice_the_adapters(tmp_path):
    """No module may leave with a higher rank than asked for: servers have limits."""
    model = adapted_llama(moved=True, r=12)
    report = export_lora(model, tmp_path, rank=20)
    assert report.rank == 16 and report.energy == pytest.approx(1.0, abs=1e-12)
    assert relative_error(logits(stock(tmp_path)), logits(model)) < 1e-5
    ranks = {
        tensor.shape[0]
        for name, tensor in load_file(tmp_path / "adapter_model.safetensors").items()
        if "lora_A" in name
    }
    assert ranks == {16}


def test_an_untrained_adapter(tmp_path):
    for rank in (None, 1):
        report = export_lora(adapted_llama(), tmp_path, rank=rank)
        assert report.energy == 1.0 and set(report.energy_per_module.values()) == {1.0}
        torch.testing.assert_close(logits(stock(tmp_path)), logits(tiny_llama()), rtol=1e-5, atol=1e-6)


def test_dtype_and_chosen_adapter(tmp_path):
    model = adapted_llama(moved=True)
    model.add_adapter("second", SorsaConfig(r=3, target_modules=["o_proj"]))
    move(model, "sorsa_", "second", seed=4)
    expected = logits(model)
    export_lora(model, tmp_path, adapter_name="second", dtype=torch.bfloat16)
    assert {t.dtype for t in load_file(tmp_path / "adapter_model.safetensors").values()} == {torch.bfloat16}
    assert relative_error(logits(stock(tmp_path)), expected) < 0.02


def test_a_model_of_transformers(tmp_path):
    model = tiny_llama()
    model.add_adapter(SorsaConfig(r=2, target_modules=["q_proj"]), "mine")
    with torch.no_grad():
        for layer in layers_of(model):
            layer.sorsa_S["mine"].mul_(2.0)
    export_lora(model, tmp_path, adapter_name="mine")
    assert relative_error(logits(stock(tmp_path)), logits(model)) < 1e-5


def test_while_merged(tmp_path):
    model = adapted_llama(moved=True)
    expected = logits(model)
    model.merge_adapter()
    export_lora(model, tmp_path)
    assert relative_error(logits(stock(tmp_path)), expected) < 1e-5


def test_from_a_saved_folder(tmp_path):
    model = adapted_llama(moved=True, alpha=3.0, alpha_pattern={"v_proj": 8.0}, rank_pattern={"v_proj": 3})
    model.save_pretrained(tmp_path / "adapter")
    for rank in (None, 2):
        found = export_checkpoint(str(tmp_path / "adapter"), tmp_path / "saved", rank=rank)
        expected = export_lora(model, tmp_path / "live", rank=rank)
        assert found.energy_per_module == pytest.approx(expected.energy_per_module)
        assert (found.rank, found.energy) == (expected.rank, pytest.approx(expected.energy))
        tensors = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("saved", "live")]
        assert tensors[0].keys() == tensors[1].keys()
        for name, tensor in tensors[1].items():
            torch.testing.assert_close(tensors[0][name], tensor, rtol=1e-6, atol=1e-7)
        assert (
            PeftConfig.from_pretrained(tmp_path / "saved").to_dict()
            == PeftConfig.from_pretrained(tmp_path / "live").to_dict()
        )


def test_bad_requests(tmp_path):
    model = adapted_llama(moved=True)
    with pytest.raises(ValueError, match=r"(?s)absent.*\['default'\]"):
        export_lora(model, tmp_path, adapter_name="absent")
    with pytest.raises(ValueError, match="not a SORSA adapter"):
        export_lora(tiny_llama(), tmp_path)
    for rank in (0, -1, 5):
        with pytest.raises(ValueError, match="`rank` must be between 1 and 4"):
            export_lora(model, tmp_path, rank=rank)
    assert not (tmp_path / "adapter_model.safetensors").exists()
    half = adapted_llama(moved=True, save_init=False)
    half.save_pretrained(tmp_path / "half")
    with pytest.raises(ValueError, match="(?s)no initial factors.*export_lora"):
        export_checkpoint(str(tmp_path / "half"), tmp_path / "out")
    lora = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"]))
    lora.save_pretrained(tmp_path / "lora")
    with pytest.raises(ValueError, match="not a SORSA adapter"):
        export_checkpoint(str(tmp_path / "lora"), tmp_path / "out")


STRANGER = """
import importlib.util, json, sys
import torch
from peft import PeftModel
from tests.common.tuner_cases import LLAMA, outputs
from tests.support.models import tiny_llama

assert importlib.util.find_spec("eigenhub") is None
model = PeftModel.from_pretrained(tiny_llama(), sys.argv[1])
print(json.dumps(outputs(model, LLAMA).double().flatten().tolist()))
"""


def test_a_process_that_cannot_import_eigenhub(tmp_path):
    model = adapted_llama(moved=True)
    export_lora(model, tmp_path / "lora")
    finished = run_python(STRANGER, str(tmp_path / "lora"), folder=tmp_path, block=("eigenhub",))
    expected = outputs(model, LLAMA).double().flatten()
    assert (torch.tensor(finished.result, dtype=torch.float64) - expected).abs().max() < 1e-6


def test_peft_converts_it_too(tmp_path):
    """PEFT's own conversion, by a dense SVD per layer, agrees with the export."""
    model = adapted_llama(moved=True)
    expected = logits(model)
    model.supports_lora_conversion()
    from peft import save_as_lora

    save_as_lora(tmp_path, model, rank=4)
    assert relative_error(logits(stock(tmp_path)), expected) < 1e-4


@require_bitsandbytes
def test_a_quantised_base(tmp_path):
    from tests.common.tuner_quantized import quantized_llama

    model = get_peft_model(
        quantized_llama(tmp_path / "dense", "8bit"), SorsaConfig(r=2, target_modules=["q_proj"])
    ).eval()
    move(model, "sorsa_")
    export_lora(model, tmp_path / "lora")
    found = logits(stock(tmp_path / "lora", quantized_llama(tmp_path / "dense", "8bit")))
    assert relative_error(found, logits(model)) < 1e-4


def test_a_revision_and_a_base_name_are_kept(tmp_path):
    model = adapted_llama()
    model.save_pretrained(tmp_path / "adapter")
    edit_config(tmp_path / "adapter", base_model_name_or_path="some/base", revision="abc")
    export_checkpoint(str(tmp_path / "adapter"), tmp_path / "lora")
    stored = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert stored["base_model_name_or_path"] == "some/base" and stored["revision"] == "abc"
    assert stored["peft_type"] == "LORA" and stored["inference_mode"] is True
