# SPDX-License-Identifier: Apache-2.0
"""The contract of the kind *tuner*: what PEFT's own methods do, tried on every model of `tuner_cases.CASES`.

A tuner enters by one class:

```python
class TestMethod(TunerTester):
    config_class = MethodConfig
    config = {"r": 2}
    prefix = "method_"
```
"""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn

from tests.common.tuner_adapters import SeveralAdapters
from tests.common.tuner_cases import (
    CASES,
    TunerCase,
    adapter_parameters,
    assert_same_tensors,
    move,
    outputs,
    weights_of,
)
from tests.common.tuner_hub import Hub
from tests.common.tuner_loading import Loading
from tests.common.tuner_merging import Merging
from tests.common.tuner_quantized import QuantizedBase
from tests.common.tuner_targets import Targets
from tests.common.tuner_trainer import UnderTrainer
from tests.common.tuner_training import Training


class TunerTester(Loading, SeveralAdapters, Merging, Training, UnderTrainer, Targets, QuantizedBase, Hub):
    """Everything a tuner must do. Class attributes describe the tuner.

    Attributes:
        config_class (`type[PeftConfig]`): its configuration.
        config (`dict`): keywords that make a small adapter on every case.
        prefix (`str`): prefix of its parameters' names.
        starts_as_base (`bool`, *optional*, defaults to `True`): whether a fresh adapter leaves the output to the bit.
        merge_tolerance (`float`, *optional*, defaults to 1e-5): largest difference of outputs after a float32 merge.
        quantized_targets (`list[str]`): modules to adapt on a quantised tiny Llama.
    """

    config_class: type[PeftConfig]
    config: dict[str, Any]
    prefix: str
    starts_as_base = True
    merge_tolerance = 1e-5
    quantized_targets = ["q_proj", "down_proj"]

    @pytest.fixture(params=CASES, ids=lambda case: case.name)
    def case(self, request: pytest.FixtureRequest) -> TunerCase:
        return request.param

    @pytest.fixture(params=[c for c in CASES if c.auto_class], ids=lambda case: case.name)
    def hf_case(self, request: pytest.FixtureRequest) -> TunerCase:
        return request.param

    @pytest.fixture(params=[c for c in CASES if c.is_language_model], ids=lambda case: case.name)
    def lm_case(self, request: pytest.FixtureRequest) -> TunerCase:
        return request.param

    def make_config(self, case: TunerCase, **overrides: Any) -> PeftConfig:
        return self.config_class(**({"target_modules": case.targets} | self.config | overrides))

    def adapted(
        self, case: TunerCase, base: nn.Module | None = None, moved: bool = True, **overrides: Any
    ) -> PeftModel:
        """A base model with one adapter, in eval mode; away from its start unless `moved` is false."""
        base = case.model() if base is None else base
        with torch.random.fork_rng(devices=[]):  # a tuner may start from random numbers: the same ones every time
            torch.manual_seed(0)
            model = get_peft_model(base, self.make_config(case, **overrides))
        if moved:
            move(model, self.prefix)
        return model.eval()

    def add(self, model: PeftModel, case: TunerCase, name: str, seed: int | None = None, **overrides: Any) -> None:
        """Another adapter, the same every time; moved and active if a seed is given."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model.add_adapter(name, self.make_config(case, **overrides))
        if seed is not None:
            move(model, self.prefix, name, seed=seed)

    def test_trainable_parameters_are_those_of_the_adapter(self, case):
        model = self.adapted(case, moved=False)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert trained and trained <= set(adapter_parameters(model, self.prefix))
        assert all(any(f".{target}." in name for target in case.targets) for name in trained)

    def test_a_fresh_adapter_changes_nothing(self, case):
        base = case.model()
        expected = outputs(base, case)
        model = self.adapted(case, base, moved=False)
        if self.starts_as_base:
            assert torch.equal(outputs(model, case), expected)
        torch.testing.assert_close(outputs(model, case), expected, rtol=1e-5, atol=1e-5)

    def test_disabled_equals_base_and_enabled_does_not(self, case):
        base = case.model()
        expected = outputs(base, case)
        model = self.adapted(case, base)
        active = outputs(model, case)
        assert (active - expected).abs().max() > 1e-5
        with model.disable_adapter():
            assert torch.equal(outputs(model, case), expected)
        assert torch.equal(outputs(model, case), active)

    def test_unload_gives_the_base_back_to_the_bit(self, case):
        base = case.model()
        before = weights_of(base)
        restored = self.adapted(case, base).unload()
        assert_same_tensors(weights_of(restored), before)
        assert type(restored) is type(base)

    def test_the_base_weights_stay_through_training_disabling_and_deleting(self, case):
        before = weights_of(case.model())
        model = self.adapted(case)
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1)
        for _ in range(2):
            answer = model(**case.inputs())
            (answer if case.auto_class is None else answer.logits).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        with model.disable_adapter():
            outputs(model, case)
        self.add(model, case, "other")
        model.delete_adapter("default")
        assert_same_tensors(weights_of(model.unload()), before)

    def test_deepcopy_and_pickle(self, case):
        model = self.adapted(case)
        expected = outputs(model, case)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)):
            assert torch.equal(outputs(twin, case), expected)
            move(twin, self.prefix)
            assert not torch.equal(outputs(twin, case), expected)
        assert torch.equal(outputs(model, case), expected)

    def test_status(self, case):
        model = self.adapted(case)
        self.add(model, case, "other")
        status = model.get_model_status()
        name = str(self.config_class(**self.config).peft_type.value)
        assert status.available_adapters == ["default", "other"]
        assert [str(getattr(kind, "value", kind)) for kind in status.peft_types.values()] == [name, name]
        assert status.active_adapters == ["default"] and status.merged_adapters == [] and status.enabled is True
        assert status.requires_grad == {"default": True, "other": False}
        assert all(set(layer.active_adapters) == {"default"} for layer in model.get_layer_status())

    def test_representation_names_the_tuner(self, case):
        text = repr(self.adapted(case, moved=False)).lower()
        assert self.prefix.rstrip("_") in text
