# SPDX-License-Identifier: Apache-2.0
"""Choosing the modules to adapt, and their ranks."""

import pytest
import torch
from peft import PeftModel, get_peft_model

from tests.common.tuner_cases import LLAMA, adapter_parameters, move, outputs, weights_of
from tests.support.models import tiny_bert, tiny_llama


class Targets:
    """Mixin of `TunerTester`: which modules are adapted."""

    def adapted_modules(self, model, adapter: str = "default") -> set[str]:
        """Names of the adapted modules, as in the base model."""
        names = {name.split(f".{self.prefix}")[0] for name in adapter_parameters(model, self.prefix, adapter)}
        return {name.removeprefix("base_model.model.") for name in names}

    def test_all_linear(self, case):
        model = self.adapted(case, target_modules="all-linear")
        from transformers.pytorch_utils import Conv1D

        linear = {n for n, m in case.model().named_modules() if isinstance(m, torch.nn.Linear | Conv1D)}
        found = self.adapted_modules(model)
        assert found and found <= linear
        left = {name.rsplit(".", 1)[-1] for name in linear - found}
        assert left <= {case.head, "lm_head", "classifier"}
        expected = outputs(model, case)
        assert torch.equal(outputs(get_back(self, model, case), case), expected)

    def test_default_targets_of_the_architecture(self, hf_case):
        if hf_case.name == "vit":
            pytest.skip("PEFT names ViT's modules after an older transformers")
        model = get_peft_model(hf_case.model(), self.config_class(**self.config))
        assert self.adapted_modules(model)

    def test_regular_expression(self):
        model = self.adapted(LLAMA, target_modules=r".*layers\.1\..*q_proj")
        assert self.adapted_modules(model) == {"model.layers.1.self_attn.q_proj"}

    def test_exclude_modules(self, case):
        model = self.adapted(case, exclude_modules=[case.targets[0]])
        left = {name.rsplit(".", 1)[-1] for name in self.adapted_modules(model)}
        assert left == set(case.targets[1:])

    def test_layers_to_transform(self, hf_case):
        for pattern in (None, hf_case.layers):
            model = self.adapted(hf_case, layers_to_transform=[1], layers_pattern=pattern)
            found = self.adapted_modules(model)
            assert found and all(f".{hf_case.layers}.1." in f".{name}" for name in found)

    def test_rank_and_alpha_patterns(self, case, tmp_path):
        first = case.targets[0]
        model = self.adapted(case, rank_pattern={first: 3}, alpha_pattern={first: 6.0})
        ranks = {}
        for name, module in model.named_modules():
            if hasattr(module, "scaling") and "default" in getattr(module, "r", {}):
                ranks.setdefault(name.rsplit(".", 1)[-1], set()).add((module.r["default"], module.scaling["default"]))
        assert ranks[first] == {(3, 2.0)}
        assert all(rank == self.config["r"] for other in case.targets[1:] for rank, _ in ranks[other])
        expected = outputs(model, case)
        model.save_pretrained(tmp_path)
        assert torch.equal(outputs(PeftModel.from_pretrained(case.model(), tmp_path), case), expected)

    def test_nothing_to_adapt(self, case):
        base = case.model()
        before = weights_of(base)
        with pytest.raises(ValueError, match="(?i)target"):
            get_peft_model(base, self.make_config(case, target_modules=["absent"]))
        assert weights_of(base).keys() == before.keys()

    @pytest.mark.parametrize("factory", [tiny_llama, tiny_bert], ids=["llama", "bert"])
    def test_layer_replication(self, factory, tmp_path):
        """A deeper model with shared weights and adapters of their own; merging would count changes twice."""
        targets = ["q_proj"] if factory is tiny_llama else ["query"]
        config = {"target_modules": targets, "layer_replication": [[0, 2], [0, 2]]}
        inputs = LLAMA.inputs()

        def answer(of):
            with torch.no_grad():
                return of(**inputs, use_cache=False).logits if factory is tiny_llama else of(**inputs).logits

        model = get_peft_model(factory(), self.make_config(LLAMA, **config))
        assert len(self.adapted_modules(model)) == 4
        with model.disable_adapter():
            plain = answer(model.eval())
        assert torch.equal(answer(model), plain) or not self.starts_as_base
        move(model, self.prefix)
        copies = [p for n, p in adapter_parameters(model, self.prefix).items() if p.requires_grad]
        assert len({p.data_ptr() for p in copies}) == len(copies), "the copies of a layer share their adapter"
        expected = answer(model)
        assert not torch.equal(expected, plain)
        model.save_pretrained(tmp_path)
        assert torch.equal(answer(PeftModel.from_pretrained(factory(), tmp_path)), expected)
        with pytest.raises(ValueError, match="(?i)shared|replicat"):
            model.merge_adapter()
        with pytest.raises(ValueError, match="(?i)shared|replicat"):
            model.merge_and_unload()
        assert torch.equal(answer(model), expected)

    @pytest.mark.filterwarnings("ignore:.*tie_word_embeddings")
    def test_tied_weights(self, tmp_path):
        """An adapted head that shares its weight with the embedding is right in forward and refuses to be merged."""
        base = tiny_llama(tie_word_embeddings=True)
        assert base.lm_head.weight is base.model.embed_tokens.weight
        before = weights_of(base)
        plain = outputs(base, LLAMA)
        model = get_peft_model(base, self.make_config(LLAMA, target_modules=["lm_head", "q_proj"])).eval()
        torch.testing.assert_close(outputs(model, LLAMA), plain, rtol=1e-5, atol=1e-5)
        move(model, self.prefix)
        expected = outputs(model, LLAMA)
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(tiny_llama(tie_word_embeddings=True), tmp_path)
        assert torch.equal(outputs(loaded, LLAMA), expected)
        for merge in (model.merge_adapter, model.merge_and_unload):
            with pytest.raises(ValueError, match="(?i)tied|shared"):
                merge()
        restored = weights_of(model.unload())
        assert all(torch.equal(restored[name], tensor) for name, tensor in before.items())


def get_back(tester, model, case):
    """The adapter saved and loaded onto a new base."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return PeftModel.from_pretrained(case.model(), folder)
