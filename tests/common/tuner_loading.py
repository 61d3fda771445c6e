# SPDX-License-Identifier: Apache-2.0
"""Saving an adapter and loading it in every way that PEFT and transformers offer."""

import json
from pathlib import Path

import peft
import pytest
import torch
import transformers
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file

from tests.common.tuner_cases import TunerCase, adapter_parameters, assert_same_tensors, disturb, outputs


class Loading:
    """Mixin of `TunerTester`: files."""

    def saved(self, case: TunerCase, folder: Path, **overrides) -> tuple[PeftModel, torch.Tensor]:
        """A moved adapter in `folder`, its model and its outputs."""
        model = self.adapted(case, **overrides)
        model.save_pretrained(folder)
        return model, outputs(model, case)

    def test_config_round_trip(self, case, tmp_path):
        config = self.make_config(case, modules_to_save=[case.head], base_model_name_or_path="some/base")
        config.save_pretrained(tmp_path)
        loaded = PeftConfig.from_pretrained(tmp_path)
        assert type(loaded) is self.config_class
        assert loaded.peft_type == config.peft_type
        assert loaded.to_dict() == config.to_dict()
        stored = json.loads((tmp_path / "adapter_config.json").read_text())
        assert stored["peft_type"] == config.peft_type.value and sorted(stored["target_modules"]) == sorted(
            case.targets
        )

    @pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
    def test_save_and_load(self, case, tmp_path, low_cpu_mem_usage, nan_empty):
        model, expected = self.saved(case, tmp_path)
        loaded = PeftModel.from_pretrained(case.model(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
        assert torch.equal(outputs(loaded, case), expected)
        assert_same_tensors(adapter_parameters(loaded, self.prefix), adapter_parameters(model, self.prefix))
        assert not any(p.requires_grad for p in loaded.parameters())

    def test_the_file_holds_only_this_adapter(self, case, tmp_path):
        model = self.adapted(case)
        self.add(model, case, "other")
        model.save_pretrained(tmp_path, selected_adapters=["default"])
        keys = load_file(tmp_path / "adapter_model.safetensors").keys()
        assert keys and all(f".{self.prefix}" in key and "default" not in key and "other" not in key for key in keys)
        assert {path.name for path in tmp_path.iterdir()} == {
            "README.md", "adapter_config.json", "adapter_model.safetensors"
        }  # fmt: skip

    def test_renamed_adapter_and_subfolder(self, case, tmp_path):
        model = self.adapted(case)
        self.add(model, case, "second", seed=1)
        expected = outputs(model, case)
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(case.model(), tmp_path, subfolder="second", adapter_name="renamed")
        assert list(loaded.peft_config) == ["renamed"]
        assert torch.equal(outputs(loaded, case), expected)

    def test_is_trainable(self, case, tmp_path):
        model, expected = self.saved(case, tmp_path)
        loaded = PeftModel.from_pretrained(case.model(), tmp_path, is_trainable=True)
        assert torch.equal(outputs(loaded, case), expected)
        trainable = [{n for n, p in m.named_parameters() if p.requires_grad} for m in (model, loaded)]
        assert trainable[0] == trainable[1]

    def test_a_second_save_writes_the_same_bytes(self, case, tmp_path):
        model, _ = self.saved(case, tmp_path / "first")
        loaded = PeftModel.from_pretrained(case.model(), tmp_path / "first")
        loaded.save_pretrained(tmp_path / "second")
        first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("first", "second"))
        assert_same_tensors(second, first)

    def test_load_adapter_beside_another(self, case, tmp_path):
        _, expected = self.saved(case, tmp_path)
        model = self.adapted(case, moved=False)
        fresh = outputs(model, case)
        model.load_adapter(tmp_path, adapter_name="loaded")
        assert torch.equal(outputs(model, case), fresh)
        model.set_adapter("loaded")
        assert torch.equal(outputs(model, case), expected)

    def test_half_precision_file(self, case, tmp_path):
        """A file converted to bfloat16 loads into the adapter's own dtype."""
        from safetensors.torch import save_file

        self.saved(case, tmp_path)
        path = tmp_path / "adapter_model.safetensors"
        rounded = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
        save_file(rounded, path, metadata={"format": "pt"})
        loaded = PeftModel.from_pretrained(case.model(), tmp_path)
        held = adapter_parameters(loaded, self.prefix)
        assert held and all(p.dtype == torch.float32 for p in held.values())
        assert torch.isfinite(outputs(loaded, case)).all()

    def with_base_on_disk(self, case: TunerCase, folder: Path, **overrides) -> torch.Tensor:
        """Base model in `folder/base`, adapter in `folder/adapter`; returns the adapter's outputs."""
        case.model().save_pretrained(folder / "base")
        base = getattr(transformers, f"Auto{case.auto_class}").from_pretrained(folder / "base")
        return self.saved(case, folder / "adapter", base=base, **overrides)[1]

    def test_auto_peft_model(self, hf_case, tmp_path):
        if not hasattr(peft, f"AutoPeft{hf_case.auto_class}"):
            pytest.skip(f"PEFT has no auto class for {hf_case.auto_class}")
        # PEFT's classes for classification expect the head among the saved modules
        head = {} if hf_case.is_language_model else {"modules_to_save": [hf_case.head], "task_type": "SEQ_CLS"}
        expected = self.with_base_on_disk(hf_case, tmp_path, **head)
        loaded = getattr(peft, f"AutoPeft{hf_case.auto_class}").from_pretrained(tmp_path / "adapter")
        assert torch.equal(outputs(loaded, hf_case), expected)

    def test_transformers_from_pretrained_of_an_adapter(self, hf_case, tmp_path):
        expected = self.with_base_on_disk(hf_case, tmp_path)
        loaded = getattr(transformers, f"Auto{hf_case.auto_class}").from_pretrained(tmp_path / "adapter")
        assert torch.equal(outputs(loaded, hf_case), expected)

    def test_transformers_load_adapter(self, hf_case, tmp_path):
        _, expected = self.saved(hf_case, tmp_path)
        model = hf_case.model()
        plain = outputs(model, hf_case)
        model.load_adapter(str(tmp_path), adapter_name="mine")
        assert torch.equal(outputs(model, hf_case), expected)
        model.disable_adapters()
        assert torch.equal(outputs(model, hf_case), plain)
        model.enable_adapters()
        assert torch.equal(outputs(model, hf_case), expected)

    def test_transformers_add_adapter_and_save(self, hf_case, tmp_path):
        model = hf_case.model()
        plain = outputs(model, hf_case)
        model.add_adapter(self.make_config(hf_case), adapter_name="mine")
        torch.testing.assert_close(outputs(model, hf_case), plain, rtol=1e-5, atol=1e-5)
        disturb(adapter_parameters(model, self.prefix, "mine"))
        expected = outputs(model, hf_case)
        assert (expected - plain).abs().max() > 1e-5
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(hf_case.model(), tmp_path)
        assert torch.equal(outputs(loaded, hf_case), expected)
