# SPDX-License-Identifier: Apache-2.0
"""Gradients: which parameters get them, and that what saves memory or time does not change them."""

import pytest
import torch
from peft import PeftModel

from tests.common.tuner_cases import LLAMA, adapter_parameters, loss_of, outputs


class Training:
    """Mixin of `TunerTester`: forward, backward, other dtypes."""

    def gradients(self, model, case) -> dict[str, torch.Tensor]:
        model.train()
        model.zero_grad()
        loss_of(model, case).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    def test_gradients_reach_exactly_the_adapter(self, case):
        model = self.adapted(case)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        gradients = self.gradients(model, case)
        assert gradients.keys() == trained
        assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in gradients.values())

    def test_training_lowers_the_loss(self, case):
        model = self.adapted(case, moved=False).train()
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        before = loss_of(model, case).item()
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(model, case).backward()
            optimizer.step()
        assert loss_of(model, case).item() < before

    @pytest.mark.parametrize("use_reentrant", [True, False])
    def test_gradient_checkpointing(self, hf_case, use_reentrant):
        expected = self.gradients(self.adapted(hf_case), hf_case)
        base = hf_case.model()
        base.activation_checkpointing_enable({"use_reentrant": use_reentrant})
        if use_reentrant:
            base.enable_input_require_grads()
        model = self.adapted(hf_case, base)
        found = self.gradients(model, hf_case)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.equal(found[name], gradient), name

    def test_modules_to_save(self, case, tmp_path):
        model = self.adapted(case, modules_to_save=[case.head])
        gradients = self.gradients(model, case)
        heads = {name for name in gradients if ".modules_to_save.default." in name}
        assert heads and all(f"{case.head}." in name for name in heads)
        assert gradients.keys() - heads <= set(adapter_parameters(model, self.prefix))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in heads:
                    parameter.add_(0.25)
        expected = outputs(model, case)
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(case.model(), tmp_path)
        assert torch.equal(outputs(loaded, case), expected)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_base(self, hf_case, dtype, tmp_path):
        """The adapter stays in float32, starts as the base to the bit, trains and reloads."""
        base = hf_case.model().to(dtype)
        inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in hf_case.inputs().items()}
        with torch.no_grad():
            plain = base(**inputs).logits
        model = self.adapted(hf_case, base, moved=False)
        assert {p.dtype for p in adapter_parameters(model, self.prefix).values()} == {torch.float32}
        start = model(**inputs).logits
        assert start.dtype == dtype
        if self.starts_as_base:
            assert torch.equal(start, plain)
        start.float().square().mean().backward()
        trained = [p for p in model.parameters() if p.requires_grad]
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
        torch.optim.SGD(trained, lr=1.0).step()
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(hf_case.model().to(dtype), tmp_path)
        with torch.no_grad():
            assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)

    def test_under_autocast(self, hf_case):
        base = hf_case.model()
        with torch.autocast("cpu", torch.bfloat16):
            plain = outputs(base, hf_case)
            model = self.adapted(hf_case, base, moved=False)
            if self.starts_as_base:
                assert torch.equal(outputs(model, hf_case), plain)
            loss_of(model.train(), hf_case).backward()
        assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.requires_grad)

    def test_generate(self, lm_case):
        base = lm_case.model()
        prompt, settings = lm_case.inputs(), {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 1}
        plain = base.generate(**prompt, **settings)
        model = self.adapted(lm_case, base, moved=False)
        assert torch.equal(model.generate(**prompt, **settings), plain)
        with torch.no_grad():
            for parameter in adapter_parameters(model, self.prefix).values():
                if parameter.requires_grad:
                    parameter.mul_(1.5)
        cached = model.generate(**prompt, **settings)
        assert cached.shape == plain.shape
        assert torch.equal(model.generate(**prompt, **settings, use_cache=False), cached)
        beams = model.generate(**prompt, **settings, num_beams=2, adapter_names=["default", "__base__"])
        alone = base.generate(**prompt, **settings, num_beams=2)
        assert torch.equal(beams[0], alone[0])
        with model.disable_adapter():
            assert torch.equal(model.generate(**prompt, **settings), plain)

    def test_generate_in_half_precision(self, lm_case):
        model = self.adapted(lm_case, lm_case.model().bfloat16())
        tokens = model.generate(**lm_case.inputs(), max_new_tokens=3, do_sample=False, pad_token_id=1)
        assert tokens.shape == (2, lm_case.inputs()["input_ids"].shape[1] + 3)

    @pytest.mark.slow
    def test_compile(self):
        model = self.adapted(LLAMA).eval()
        expected = outputs(model, LLAMA)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="aot_eager")
        torch.testing.assert_close(outputs(compiled, LLAMA), expected, rtol=1e-5, atol=1e-5)
        reference = self.gradients(self.adapted(LLAMA), LLAMA)
        found = {name.removeprefix("_orig_mod."): g for name, g in self.gradients(compiled, LLAMA).items()}
        assert found.keys() == reference.keys()
        for name, gradient in reference.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
        torch._dynamo.reset()
