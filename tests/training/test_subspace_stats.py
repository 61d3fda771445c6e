# SPDX-License-Identifier: Apache-2.0
"""The callback logs what the optimizer did to each matrix, and leaves training as it was."""

import json

import pytest
import torch
from transformers import TrainerCallback

from eigenhub.optim import DCTAdamWFactory, TrionFactory
from eigenhub.training.subspace_stats import FILE_NAME, SubspaceStatsCallback, mean_over_layers, named_statistics
from tests.common.optimizer_training import STEPS, make_trainer, weights


class Listener(TrainerCallback):
    """Stands for a tracker that comes after."""

    def __init__(self):
        self.heard = []

    def on_log(self, args, state, control, **kwargs):
        self.heard.append(dict(kwargs["logs"]))


def run(folder, callbacks, factory=DCTAdamWFactory, **options):
    trainer = make_trainer(folder, factory, {"lr": 3e-3, "rank": 0.5, **options}, torch.float32)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train()
    return trainer


def test_layers_go_to_the_file_and_means_to_the_log(tmp_path):
    listener = Listener()
    trainer = run(tmp_path / "a", [SubspaceStatsCallback(), listener], error_feedback="fp32")
    lines = [json.loads(line) for line in (tmp_path / "a" / FILE_NAME).read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert all(len(line["layers"]) == 14 for line in lines)
    row = lines[-1]["layers"]["model.layers.1.mlp.down_proj.weight"]
    assert row.keys() == {"captured_energy", "index_overlap", "update_rms", "error_norm"}
    assert 0 < row["captured_energy"] <= 1 and 0 <= row["index_overlap"] <= 1
    for logs in (listener.heard, trainer.state.log_history):
        means = [entry["subspace/captured_energy"] for entry in logs if "loss" in entry]
        assert means == [pytest.approx(mean_over_layers(line["layers"])["captured_energy"]) for line in lines]
    assert not trainer.optimizer.optimizer.collect_statistics


def test_training_is_the_same_with_and_without(tmp_path):
    watched = run(tmp_path / "a", [SubspaceStatsCallback(per_layer=False)], TrionFactory)
    plain = run(tmp_path / "b", [], TrionFactory)
    assert watched.state.global_step == STEPS
    assert all(a.equal(b) for a, b in zip(weights(watched.model), weights(plain.model), strict=True))
    assert not (tmp_path / "a" / FILE_NAME).exists()


def test_another_optimizer_is_refused_by_name(tmp_path):
    trainer = make_trainer(tmp_path, DCTAdamWFactory, {"lr": 1e-3}, torch.float32)
    trainer.optimizer_cls_and_kwargs = (torch.optim.SGD, {"lr": 0.1})
    trainer.add_callback(SubspaceStatsCallback())
    with pytest.raises(TypeError, match="SGD keeps no statistics"):
        trainer.train()


def test_names_and_means():
    model = torch.nn.Linear(2, 2)
    rows = named_statistics(model, {model.weight: {"a": 1.0}})
    assert rows == {"weight": {"a": 1.0}}
    assert mean_over_layers(rows | {"other": {"a": 3.0, "b": 5.0}}) == {"a": 2.0, "b": 5.0}
