# SPDX-License-Identifier: Apache-2.0
"""SenD and its controls do what every protocol must do."""

import pytest

from tests.common.callback_tester import CallbackTester, assert_same_weights, losses, weights
from tests.training.send.cases import make_plain_trainer_with_callback, make_trainer, run, state_of


class TestSenDContract(CallbackTester):
    variants = {
        "send": {},
        "mlp": {"site": "mlp"},
        "random update": {"mode": "random", "site": "update"},
        "ema": {"mode": "ema", "ema_decay": 0.9},
    }
    slow_variants = ("random update",)
    no_op = {"mode": "off"}
    make = staticmethod(make_trainer)
    state_of = staticmethod(state_of)
    run = staticmethod(run)


@pytest.mark.parametrize(("restore", "strategy"), [(False, "epoch"), (True, "steps")])
def test_the_callback_alone_resumes_in_its_output_folder(tmp_path, restore, strategy):
    """A checkpoint by epochs is written after the epoch's end, one by steps before it."""
    options = {"restore_callback_states_from_checkpoint": restore, "save_strategy": strategy}
    whole = make_plain_trainer_with_callback(tmp_path, {}, **options)
    whole.train()
    expected, state = weights(whole), state_of(whole)
    resumed = make_plain_trainer_with_callback(tmp_path, {}, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert all(a.equal(b) for a, b in zip(weights(resumed), expected, strict=True))
    assert state_of(resumed) == state and losses(resumed) == losses(whole)


def test_the_callback_in_a_plain_trainer_is_the_trainer(tmp_path):
    plain = make_plain_trainer_with_callback(tmp_path / "a", {}, save_strategy="no")
    plain.train()
    own = make_trainer(tmp_path / "b", {}, save_strategy="no")
    own.train()
    assert_same_weights(plain, own)
    assert state_of(plain) == state_of(own)
