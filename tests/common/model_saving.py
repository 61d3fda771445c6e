# SPDX-License-Identifier: Apache-2.0
"""Configuration files, checkpoints, dtypes, missing weights."""

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from tests.common.model_case import ModelCase, assert_equal_tensors, tensors_of


WEIGHTS = "model.safetensors"


class Saving(ModelCase):
    """Mixin of `ModelTester`."""

    def test_config_round_trip(self, tmp_path: Path) -> None:
        config = self.make_config()
        config.save_pretrained(tmp_path)
        for loaded in (type(config).from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
            assert type(loaded) is type(config)
            assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict() | {"_name_or_path": ""}
        assert json.loads((tmp_path / "config.json").read_text())["model_type"] == config.model_type

    def test_config_is_strict(self) -> None:
        config = self.make_config()
        for name in {field.name for field in dataclasses.fields(config)} & self.config.keys():
            if type(getattr(config, name)) is int:
                with pytest.raises(StrictDataclassError, match=name):
                    self.make_config(**{name: "7"})
                with pytest.raises(StrictDataclassError, match=name):
                    setattr(config, name, "7")

    def test_bad_configs_are_refused_by_name(self) -> None:
        for settings, message in self.bad_configs:
            with pytest.raises((ValueError, StrictDataclassError), match=message):
                self.model_class(self.make_config(**settings))

    def test_save_and_load_to_the_bit(self, tmp_path: Path, nan_empty: None) -> None:
        """Loading builds on the meta device: what nobody fills afterwards reads as NaN here."""
        model = self.model()
        model.save_pretrained(tmp_path)
        ways = [self.model_class]
        if self.auto_class is not None:
            ways.append(getattr(transformers, self.auto_class))
        for way in ways:
            loaded, report = way.from_pretrained(tmp_path, output_loading_info=True)
            assert type(loaded) is type(model) and not loaded.training
            assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
            assert_equal_tensors(loaded, model)
            assert torch.equal(self.answer(loaded), self.answer(model))

    def test_sharded_checkpoint(self, tmp_path: Path) -> None:
        model = self.model()
        model.save_pretrained(tmp_path, max_shard_size="1KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
        assert_equal_tensors(self.model_class.from_pretrained(tmp_path), model)

    def test_trained_values_survive(self, tmp_path: Path) -> None:
        model = self.model()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for tensor in tensors_of(model).values():
                if tensor.dtype.is_floating_point:
                    tensor.add_(0.01 * torch.rand(tensor.shape, generator=generator))
        model.save_pretrained(tmp_path)
        loaded = self.model_class.from_pretrained(tmp_path)
        assert_equal_tensors(loaded, model)
        assert not torch.equal(self.answer(loaded), self.answer(self.model()))

    def test_every_missing_weight_is_initialised(self, tmp_path: Path, nan_empty: None) -> None:
        model = self.model()
        model.save_pretrained(tmp_path)
        saved = load_file(tmp_path / WEIGHTS)
        tied = set(getattr(model, "all_tied_weights_keys", {}))  # reported missing together with what they are tied to
        for name in saved:
            rest = {key: value for key, value in saved.items() if key != name}
            save_file(rest, tmp_path / WEIGHTS, metadata={"format": "pt"})
            loaded, report = self.model_class.from_pretrained(tmp_path, output_loading_info=True)
            assert set(report["missing_keys"]) - tied == {name}
            found = tensors_of(loaded)
            assert torch.isfinite(found[name]).all(), f"{name} is left uninitialised"
            changed = [key for key, value in rest.items() if not torch.equal(found[key], value)]
            assert not changed, f"without {name}, {changed} are initialised anew"

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision(self, tmp_path: Path, dtype: torch.dtype) -> None:
        model = self.model()
        expected = self.answer(model)
        model.save_pretrained(tmp_path / "full")
        loaded = self.model_class.from_pretrained(tmp_path / "full", dtype=dtype)
        for half in (loaded, self.model().to(dtype), self.model().half() if dtype == torch.float16 else loaded):
            self.assert_half(half, dtype, expected)
        loaded.save_pretrained(tmp_path / "half")
        assert_equal_tensors(self.model_class.from_pretrained(tmp_path / "half"), loaded)

    def assert_half(self, model: torch.nn.Module, dtype: torch.dtype, expected: torch.Tensor) -> None:
        for name, tensor in tensors_of(model).items():
            kept = name.rpartition(".")[2] in self.float32_names
            if tensor.dtype.is_floating_point:
                assert tensor.dtype == (torch.float32 if kept else dtype), name
        inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in self.questions().items()}
        answer = self.answer(model, inputs)
        assert answer.dtype == dtype
        assert torch.isfinite(answer).all()
        scale = expected.abs().max()
        assert (answer.float() - expected).abs().max() < 0.1 * scale

    def test_deepcopy_and_pickle(self) -> None:
        model = self.model()
        expected = self.answer(model)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert_equal_tensors(twin, model)
            assert torch.equal(self.answer(twin), expected)
