# SPDX-License-Identifier: Apache-2.0
"""The factories under `Trainer` and accelerate."""

import pytest
from torch import nn
from transformers import TrainingArguments

from eigenhub.optim import (
    AuON,
    AuONFactory,
    DCTAdamW,
    DCTAdamWFactory,
    HybridAuON,
    TrionFactory,
    factory_kwargs_from,
)
from tests.common.optimizer_training import OptimizerTrainingTester


class TestDCTAdamWTraining(OptimizerTrainingTester):
    factory = DCTAdamWFactory
    options = {"lr": 3e-3, "rank": 0.5, "error_feedback": "int8"}
    key = "indices"


class TestTrionTraining(OptimizerTrainingTester):
    factory = TrionFactory
    options = {"lr": 0.01, "rank": 4}
    key = "momentum_buffer"


class TestAuONTraining(OptimizerTrainingTester):
    factory = AuONFactory
    options = {"lr": 0.01, "ns_steps": 2}
    key = "momentum_buffer"


def test_training_arguments_can_be_taken_over(tmp_path):
    """`Trainer` passes none of them to a factory."""
    args = TrainingArguments(
        output_dir=str(tmp_path), learning_rate=0.3, weight_decay=0.2, adam_beta1=0.8, adam_beta2=0.7, adam_epsilon=0.1,
        use_cpu=True,
    )  # fmt: skip
    optimizer = DCTAdamWFactory()(nn.Linear(4, 4), **factory_kwargs_from(args))
    group = optimizer.param_groups[0]
    assert [group[k] for k in ("lr", "weight_decay", "betas", "eps")] == [0.3, 0.2, (0.8, 0.7), 0.1]


def test_options_find_their_place_and_unknown_ones_are_refused():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    optimizer = DCTAdamWFactory()(model, rank=2, target_modules=["a"], aux_options={"eps": 1e-5})
    assert type(optimizer) is DCTAdamW
    assert [(g["algorithm"], g["rank"], g["eps"]) for g in optimizer.param_groups] == [
        ("matrix", 2, 1e-8), ("adamw", 2, 1e-5), ("adamw", 2, 1e-5),
    ]  # fmt: skip
    assert type(AuONFactory()(model)) is AuON and type(AuONFactory()(model, ns_steps=1)) is HybridAuON
    with pytest.raises(TypeError, match="rnak"):
        DCTAdamWFactory()(model, rnak=2)
