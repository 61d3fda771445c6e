# SPDX-License-Identifier: Apache-2.0
"""Merging adapters into the base weights and taking them out again."""

import pytest
import torch

from tests.common.tuner_cases import adapter_parameters, move, outputs, weights_of


class Merging:
    """Mixin of `TunerTester`: dense weights."""

    def assert_close(self, found: torch.Tensor, expected: torch.Tensor, times: float = 1.0) -> None:
        tolerance = self.merge_tolerance * times
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("safe_merge", [False, True])
    def test_merge_and_unmerge(self, case, safe_merge):
        model = self.adapted(case)
        expected = outputs(model, case)
        before = weights_of(model)
        model.merge_adapter(safe_merge=safe_merge)
        assert model.get_model_status().merged_adapters == ["default"]
        assert any(not torch.equal(tensor, before[name]) for name, tensor in weights_of(model).items())
        self.assert_close(outputs(model, case), expected)
        model.unmerge_adapter()
        self.assert_close(outputs(model, case), expected)
        for name, tensor in weights_of(model).items():
            torch.testing.assert_close(tensor, before[name], rtol=1e-5, atol=1e-6)

    def test_merging_twice_merges_once(self, case):
        model = self.adapted(case)
        expected = outputs(model, case)
        model.merge_adapter()
        once = outputs(model, case)
        with pytest.warns(UserWarning, match="(?i)already"):
            model.merge_adapter()
        assert torch.equal(outputs(model, case), once)
        model.unmerge_adapter()
        with pytest.warns(UserWarning, match="(?i)already unmerged"):
            model.unmerge_adapter()
        self.assert_close(outputs(model, case), expected)

    @pytest.mark.parametrize("safe_merge", [False, True])
    def test_merge_and_unload(self, case, safe_merge, tmp_path):
        model = self.adapted(case)
        expected = outputs(model, case)
        plain = model.merge_and_unload(safe_merge=safe_merge)
        assert type(plain) is type(case.model())
        assert not adapter_parameters(plain, self.prefix)
        assert plain.state_dict().keys() == case.model().state_dict().keys()
        self.assert_close(outputs(plain, case), expected)
        if case.auto_class is not None:
            plain.save_pretrained(tmp_path)
            self.assert_close(outputs(type(plain).from_pretrained(tmp_path), case), expected)

    def test_safe_merge_refuses_what_is_not_finite(self, case):
        model = self.adapted(case)
        before = weights_of(case.model())
        with torch.no_grad():
            first = next(p for p in adapter_parameters(model, self.prefix).values() if p.requires_grad)
            first.view(-1)[0] = float("nan")
        with pytest.raises(ValueError, match="NaN"):
            model.merge_adapter(safe_merge=True)
        with pytest.raises(ValueError, match="NaN"):
            model.merge_and_unload(safe_merge=True)
        model.unmerge_adapter()
        after = weights_of(model.unload())
        assert all(torch.isfinite(tensor).all() for tensor in after.values())
        for name, tensor in after.items():
            torch.testing.assert_close(tensor, before[name], rtol=1e-5, atol=1e-6)

    def test_merge_named_adapters(self, case):
        model, expected = self.two_adapters(case)
        model.merge_adapter(["second"])
        self.assert_close(outputs(model, case), expected["second"])
        model.unmerge_adapter()
        self.assert_close(outputs(model, case), expected["first"])
        self.assert_close(outputs(model.merge_and_unload(adapter_names=["second"]), case), expected["second"])

    def test_merge_two_adapters(self, case):
        model, _ = self.two_adapters(case)
        model.base_model.set_adapter(["first", "second"])
        both = outputs(model, case)
        model.merge_adapter()
        self.assert_close(outputs(model, case), both, times=2)
        model.unmerge_adapter()
        self.assert_close(outputs(model, case), both, times=2)
        self.assert_close(outputs(model.merge_and_unload(), case), both, times=2)

    def test_disabling_unmerges(self, case):
        base = case.model()
        plain = outputs(base, case)
        model = self.adapted(case, base)
        expected = outputs(model, case)
        model.merge_adapter()
        with model.disable_adapter():
            self.assert_close(outputs(model, case), plain)
        self.assert_close(outputs(model, case), expected)

    @pytest.mark.filterwarnings("ignore:merging lost")
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_merge_in_half_precision(self, case, dtype):
        model = self.adapted(case, case.model().to(dtype)).to(dtype)
        inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in case.inputs().items()}

        def answer(of):
            with torch.no_grad():
                result = of(**inputs)
            return (result if isinstance(result, torch.Tensor) else result.logits).float()

        expected = answer(model)
        rounding = 20 * torch.finfo(dtype).eps * expected.abs().max().item()
        model.merge_adapter()
        assert (answer(model) - expected).abs().max() < rounding
        model.unmerge_adapter()
        assert (answer(model) - expected).abs().max() < rounding
        plain = model.merge_and_unload()
        assert {p.dtype for p in plain.parameters()} == {dtype}
        assert (answer(plain) - expected).abs().max() < rounding

    def test_an_adapter_added_while_another_is_merged(self, case):
        """What a new adapter takes from the base weight does not depend on what is merged into it at the time."""
        clean = self.adapted(case)
        self.add(clean, case, "late", seed=5)
        model = self.adapted(case)
        model.merge_adapter()
        self.add(model, case, "late")
        model.unmerge_adapter()
        move(model, self.prefix, "late", seed=5)
        self.assert_close(outputs(model, case), outputs(clean, case), times=10)
