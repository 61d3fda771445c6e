# SPDX-License-Identifier: Apache-2.0
"""The contract of the kind *federated*: rounds that are right, resumable, robust, and end in a stock PEFT adapter.

A method enters by one class:

```python
class TestMethod(FederatedTester):
    options = {"method": "method"}
```
"""

import copy
import json
from typing import Any, ClassVar

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from eigenhub.federated import FederatedCallback, QuorumError, aggregate
from eigenhub.federated.lora_model import live_tensors, read_adapter
from eigenhub.federated.recipes import recipe_of, trained_factors
from eigenhub.federated.updates import uploaded_keys
from tests.common.federated_cases import CASES, a_trainer, logits, lora_model, rows_of_clients


class Recorder(FederatedCallback):
    """Keeps what went through the hooks."""

    def __init__(self) -> None:
        self.updates: list[Any] = []
        self.states: list[dict[str, torch.Tensor]] = []
        self.errors: dict[str, str] = {}

    def on_round_begin(self, trainer: Any, round: int, clients: Any) -> None:
        self.states.append({key: tensor.clone() for key, tensor in trainer.server.state.items()})

    def on_client_end(self, trainer: Any, update: Any) -> None:
        self.updates.append(copy.deepcopy(update))

    def on_client_error(self, trainer: Any, client_id: str, reason: str) -> None:
        self.errors[client_id] = reason


class Saboteur(FederatedCallback):
    """Spoils the reply of one client."""

    def __init__(self, client: str, value: float = float("nan")) -> None:
        self.client, self.value = client, value

    def on_client_end(self, trainer: Any, update: Any) -> None:
        if update.client_id == self.client:
            next(iter(update.state.values())).fill_(self.value)


class FederatedTester:
    """Everything a federated LoRA method must do. Class attributes describe the method.

    Attributes:
        options (`dict`): settings of [`FedSVDConfig`], the method among them.
    """

    options: ClassVar[dict[str, Any]]

    @property
    def method(self) -> str:
        return self.options["method"]

    def test_a_round_is_the_average_of_what_clients_sent(self, tmp_path):
        recorder = Recorder()
        trainer = a_trainer(tmp_path, callbacks=[recorder], num_rounds=1, **self.options)
        trainer.train()
        weights = [update.num_examples for update in recorder.updates]
        assert weights == [24, 16, 9]
        uploads = [update.state for update in recorder.updates]
        generator = torch.Generator().manual_seed(trainer.config.seed + 1)
        expected = aggregate(
            uploads, weights, self.method, recorder.states[0], trainer.server.scalings, 1,
            trainer.config.refactors_in(1), generator=generator,
        )  # fmt: skip
        for key, tensor in expected.state.items():  # a rotation downlink rounds A once more
            assert torch.allclose(trainer.server.state[key], tensor, atol=1e-6), key
        live = live_tensors(trainer.model)
        assert all(torch.equal(live[key], trainer.server.state[key]) for key in live)

    def test_clients_move_what_they_send_and_nothing_else(self, tmp_path):
        recorder = Recorder()
        model = lora_model()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        trainer = a_trainer(tmp_path, model=model, callbacks=[recorder], num_rounds=2, **self.options)
        trainer.train()
        for round, state in enumerate(recorder.states, start=1):
            keys = uploaded_keys(state, trained_factors(self.method, round))
            for update in (u for u in recorder.updates if u.round == round):
                assert sorted(update.state) == keys and update.num_steps == 2
                # with B = 0 the first gradient of A vanishes, not the second
                assert all(not torch.equal(update.state[key], state[key]) for key in keys)
        if not recipe_of(self.method).moves_base:
            others = {n for n, _ in model.named_parameters() if "lora_" not in n}
            assert all(torch.equal(dict(model.named_parameters())[name], before[name]) for name in others)

    def test_the_loss_falls(self, tmp_path):
        history = a_trainer(tmp_path, num_rounds=6, local_steps=4, train_head=True, **self.options).train()
        assert history[-1]["train_loss"] < 0.9 * history[0]["train_loss"]

    def test_a_resumed_run_is_the_uninterrupted_one(self, tmp_path):
        straight = a_trainer(tmp_path / "straight", num_rounds=3, **self.options)
        straight.train()
        first = a_trainer(tmp_path / "cut", num_rounds=3, callbacks=[StopAfter(1)], **self.options)
        first.train()
        second = a_trainer(tmp_path / "cut", num_rounds=3, **self.options)
        second.train(resume_from_checkpoint=True)
        assert [record["round"] for record in second.history] == [1, 2, 3]
        for key, tensor in read_adapter(straight.model).items():
            assert torch.equal(tensor, live_tensors(second.model)[key]), key
        assert torch.equal(logits(straight.model), logits(second.model))

    @pytest.mark.parametrize("case", CASES)
    def test_stock_peft_loads_the_result(self, case, tmp_path):
        trainer = a_trainer(tmp_path / "run", case, **self.options)
        trainer.train()
        folder = trainer.save_pretrained(tmp_path / "adapter")
        expected = logits(trainer.model, case)
        loaded = PeftModel.from_pretrained(CASES[case][0](), folder)
        assert torch.allclose(logits(loaded, case), expected, atol=1e-5)
        assert torch.allclose(logits(loaded.merge_and_unload(), case), expected, atol=1e-5)
        assert json.loads((folder / "fedsvd_config.json").read_text())["method"] == self.method
        assert all(
            tensor.dtype == torch.float32 for tensor in load_file(folder / "adapter_model.safetensors").values()
        )

    def test_a_client_that_sends_garbage_is_named_and_left_out(self, tmp_path):
        recorder = Recorder()
        options = {"callbacks": [Saboteur("clinic-1"), recorder], "num_rounds": 1}
        trainer = a_trainer(tmp_path / "with", **options, **self.options)
        (record,) = trainer.train()
        assert (
            list(record["failures"]) == list(recorder.errors) == ["clinic-1"]
            and "NaN" in record["failures"]["clinic-1"]
        )
        rows = {name: data for name, data in rows_of_clients().items() if name != "clinic-1"}
        without = a_trainer(tmp_path / "without", client_datasets=rows, num_rounds=1, **self.options)
        without.train()
        assert all(torch.equal(trainer.server.state[key], without.server.state[key]) for key in without.server.state)

    def test_below_the_quorum_the_run_stops_with_its_state_saved(self, tmp_path):
        trainer = a_trainer(tmp_path, num_rounds=3, **self.options)
        trainer.callbacks = [StopAfter(1)]
        trainer.train()
        broken = a_trainer(tmp_path, num_rounds=3, min_clients=3, callbacks=[Saboteur("clinic-2")], **self.options)
        with pytest.raises(QuorumError, match="round 2: 2 usable replies, `min_clients` is 3 \\(clinic-2: .*NaN"):
            broken.train(resume_from_checkpoint=True)
        assert all(torch.equal(trainer.server.state[key], broken.server.state[key]) for key in trainer.server.state)
        mended = a_trainer(tmp_path, num_rounds=3, min_clients=3, **self.options)
        mended.train(resume_from_checkpoint=True)
        straight = a_trainer(tmp_path / "straight", num_rounds=3, **self.options)
        straight.train()
        assert all(torch.equal(mended.server.state[key], straight.server.state[key]) for key in straight.server.state)


class StopAfter(FederatedCallback):
    """Ends a run after a round."""

    def __init__(self, round: int) -> None:
        self.round = round

    def on_round_end(self, trainer: Any, record: dict[str, Any]) -> None:
        trainer.should_stop = record["round"] >= self.round
