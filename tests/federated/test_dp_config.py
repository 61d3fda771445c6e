# SPDX-License-Identifier: Apache-2.0
"""Settings of private training: what is allowed, round trip."""

import json

import pytest

from eigenhub.federated.dp_config import DPConfig


def test_settings_survive_json():
    config = DPConfig(
        6.0, 1e-5, max_grad_norm=1.5, accountant="rdp", max_participations=9, grad_sample_mode="ghost", seed=0
    )
    assert DPConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert DPConfig.from_dict({"target_epsilon": 3, "target_delta": 1e-6}) == DPConfig(3, 1e-6)


def test_the_published_defaults():
    config = DPConfig(6.0, 1e-5)
    assert (config.max_grad_norm, config.accountant, config.grad_sample_mode) == (2.0, "prv", "hooks")
    assert config.noise_multiplier is config.max_participations is config.seed is None


def test_its_batch_size_goes_before_that_of_the_training():
    assert DPConfig(6.0, 1e-5, expected_batch_size=7).batch_size(32) == 7
    assert DPConfig(6.0, 1e-5).batch_size(32) == 32
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1, got 0"):
        DPConfig(6.0, 1e-5).batch_size(0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target_epsilon": 0}, "`target_epsilon` must be a positive number, got 0"),
        ({"target_epsilon": float("nan")}, "`target_epsilon` must be a positive number, got nan"),
        ({"target_epsilon": "6"}, "`target_epsilon` must be a positive number, got '6'"),
        ({"target_epsilon": None}, "`target_epsilon` may be None only if `noise_multiplier` is given"),
        ({"target_delta": 0.0}, "`target_delta` must lie in .0, 1., got 0.0"),
        ({"target_delta": 1.0}, "`target_delta` must lie in .0, 1., got 1.0"),
        ({"max_grad_norm": 0.0}, "`max_grad_norm` must be a positive number, got 0.0"),
        ({"max_grad_norm": float("inf")}, "`max_grad_norm` must be a positive number, got inf"),
        ({"noise_multiplier": -1.0}, "`noise_multiplier` must be None or a number of at least 0, got -1.0"),
        ({"accountant": "gdp"}, "`accountant` must be one of prv, rdp; got 'gdp'"),
        ({"grad_sample_mode": "ew"}, "`grad_sample_mode` must be one of hooks, ghost; got 'ew'"),
        ({"max_participations": 0}, "`max_participations` must be an integer of at least 1, got 0"),
        ({"physical_batch_size": 2.5}, "`physical_batch_size` must be an integer of at least 1, got 2.5"),
        ({"expected_batch_size": True}, "`expected_batch_size` must be an integer of at least 1, got True"),
        ({"seed": -1}, "`seed` must be an integer of at least 0, got -1"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        DPConfig(**({"target_epsilon": 6.0, "target_delta": 1e-5} | values))


def test_unknown_and_missing_names_are_errors():
    with pytest.raises(ValueError, match="unknown settings epsilon, secure_mode; known are accountant, "):
        DPConfig.from_dict({"target_epsilon": 6.0, "target_delta": 1e-5, "epsilon": 1, "secure_mode": True})
    with pytest.raises(ValueError, match="missing settings target_delta"):
        DPConfig.from_dict({"target_epsilon": 6.0})


def test_noise_without_a_target():
    assert DPConfig(None, 1e-5, noise_multiplier=0.0).noise_multiplier == 0.0
