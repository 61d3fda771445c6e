# SPDX-License-Identifier: Apache-2.0
"""Several adapters on one model."""

import pytest
import torch
from peft import LoraConfig, PeftModel

from tests.common.tuner_cases import adapter_parameters, move, outputs


class SeveralAdapters:
    """Mixin of `TunerTester`: two adapters and more."""

    def two_adapters(self, case, first: str = "first", second: str = "second"):
        """A model with two moved adapters, the first one active, and the outputs of each by name."""
        model = self.adapted(case, moved=False)
        expected = {}
        for seed, name in enumerate((first, second)):
            self.add(model, case, name, seed=seed)
            expected[name] = outputs(model, case)
        assert not torch.equal(expected[first], expected[second])
        model.set_adapter(first)
        return model.eval(), expected

    def test_set_adapter(self, case):
        model, expected = self.two_adapters(case)
        for name in ("first", "second", "first"):
            model.set_adapter(name)
            assert torch.equal(outputs(model, case), expected[name])
            trained = {n for n, p in model.named_parameters() if p.requires_grad}
            assert trained and trained <= set(adapter_parameters(model, self.prefix, name))

    @pytest.mark.parametrize(("first", "second"), [("task", "task_two"), ("adapter", "other_adapter")])
    def test_names_that_contain_one_another(self, case, tmp_path, first, second):
        model, expected = self.two_adapters(case, first, second)
        model.save_pretrained(tmp_path, selected_adapters=[first, second])
        for name in (first, second):
            loaded = PeftModel.from_pretrained(case.model(), tmp_path / name)
            assert torch.equal(outputs(loaded, case), expected[name])
        model.delete_adapter(first)
        model.set_adapter(second)
        assert torch.equal(outputs(model, case), expected[second])

    def test_delete_an_inactive_adapter(self, case):
        model, expected = self.two_adapters(case)
        model.delete_adapter("second")
        assert not adapter_parameters(model, self.prefix, "second") and "second" not in model.peft_config
        assert torch.equal(outputs(model, case), expected["first"])
        with pytest.raises(ValueError, match="second"):
            model.set_adapter("second")

    def test_delete_the_active_adapter(self, case):
        model, expected = self.two_adapters(case)
        model.delete_adapter("default")
        model.delete_adapter("first")
        assert model.active_adapters == ["second"]
        assert torch.equal(outputs(model, case), expected["second"])

    def test_a_deleted_name_can_be_used_again(self, case):
        model, expected = self.two_adapters(case)
        model.delete_adapter("second")
        self.add(model, case, "second", seed=1)
        assert torch.equal(outputs(model, case), expected["second"])

    def test_adapters_on_different_modules(self, case):
        model = self.adapted(case)
        alone = outputs(model, case)
        self.add(model, case, "elsewhere", target_modules=case.others)
        assert torch.equal(outputs(model, case), alone)
        move(model, self.prefix, "elsewhere", seed=3)
        names = adapter_parameters(model, self.prefix, "elsewhere")
        assert names and all(any(f".{other}." in name for other in case.others) for name in names)
        assert not torch.equal(outputs(model, case), alone)
        model.set_adapter("default")
        assert torch.equal(outputs(model, case), alone)

    def test_two_active_adapters(self, case):
        model, expected = self.two_adapters(case)
        model.base_model.set_adapter(["first", "second"])
        both = outputs(model, case)
        assert all((both - one).abs().max() > 1e-5 for one in expected.values())
        model.base_model.set_adapter("second")
        assert torch.equal(outputs(model, case), expected["second"])

    def test_mixed_batch(self, case):
        model, expected = self.two_adapters(case)
        with model.disable_adapter():
            plain = outputs(model, case)
        wanted = {**expected, "__base__": plain}
        for names in (["first", "second"], ["second", "__base__"], ["__base__", "first"], ["second", "second"]):
            names = (names * 2)[: len(plain)]
            found = outputs(model, case, adapter_names=names)
            for row, name in enumerate(names):
                torch.testing.assert_close(found[row], wanted[name][row], rtol=1e-5, atol=1e-5)
        assert torch.equal(outputs(model, case), expected["first"])

    def test_mixed_batch_with_modules_to_save(self, case):
        heads = [m for name, m in case.model().named_modules() if name.rsplit(".", 1)[-1] == case.head]
        if not all(isinstance(head, torch.nn.Linear) for head in heads):
            pytest.skip("PEFT mixes the copies of linear, embedding and convolution layers only")
        model = self.adapted(case, moved=False, modules_to_save=[case.head])
        self.add(model, case, "second", seed=1, modules_to_save=[case.head])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "modules_to_save.second" in name:
                    parameter.add_(0.5)
        wanted = {}
        for name in ("second", "default"):
            model.set_adapter(name)
            wanted[name] = outputs(model, case)
        names = ["default", "second", "default", "second"][: len(wanted["default"])]
        found = outputs(model, case, adapter_names=names)
        for row, name in enumerate(names):
            torch.testing.assert_close(found[row], wanted[name][row], rtol=1e-5, atol=1e-5)

    def test_mixed_batch_refuses(self, case):
        model, expected = self.two_adapters(case)
        size = len(expected["first"])
        with pytest.raises(ValueError, match="absent"):
            outputs(model, case, adapter_names=["absent"] * size)
        with pytest.raises(ValueError, match="adapter_names"):
            outputs(model, case, adapter_names=["first"] * (size + 1))
        model.train()
        with pytest.raises(ValueError, match="training"):
            model(**case.inputs(), adapter_names=["first"] * size)
        assert torch.equal(outputs(model, case), expected["first"]), "a refused call left its hooks behind"

    def test_another_method_beside_it_is_refused(self, case):
        model = self.adapted(case)
        with pytest.raises(ValueError, match="(?i)type"):
            model.add_adapter("lora", LoraConfig(target_modules=case.targets))
        assert list(model.peft_config) == ["default"]
