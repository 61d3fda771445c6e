# SPDX-License-Identifier: Apache-2.0
"""The configuration: defaults, aliases, and errors that name the field, the value and what is allowed."""

import copy
import json

import pytest

from eigenhub.tuners.sorsa import SorsaConfig


def test_defaults_are_those_of_the_method():
    config = SorsaConfig()
    assert (config.r, config.alpha, config.dropout, config.reg_weight, config.reg_eps) == (16, None, 0.0, 0.2, 1e-3)
    assert (config.svd_driver, config.mode, config.save_init, config.reg_reduction) == ("auto", "delta", True, "mean")
    assert config.reg_in_forward is False and config.init_weights is True and config.svd_cache is None
    assert config.peft_type == "SORSA"


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("r", 0, "positive integer, got 0"),
        ("r", -3, "positive integer"),
        ("r", 2.5, "positive integer"),
        ("r", True, "positive integer"),
        ("alpha", 0, "positive"),
        ("alpha", -1.0, "positive"),
        ("alpha", float("nan"), "positive"),
        ("dropout", 1.0, r"\[0, 1\)"),
        ("dropout", -0.1, r"\[0, 1\)"),
        ("reg_weight", -0.1, "not be negative"),
        ("reg_weight", float("nan"), "not be negative"),
        ("reg_eps", -1e-3, "not be negative"),
        ("svd_niter", -1, "not be negative"),
        ("svd_oversample", -1, "not be negative"),
        ("svd_driver", "exact", "auto, full, gram, randomized"),
        ("reg_reduction", "max", "mean, sum"),
        ("mode", "fused", "delta, residual"),
        ("init_weights", False, "random start"),
        ("init_weights", "pissa", "checkpoint"),
        ("rank_pattern", {"q_proj": 0}, "q_proj"),
        ("alpha_pattern", {"q_proj": -1.0}, "q_proj"),
        ("layers_pattern", "h", "layers_to_transform"),
    ],
)
def test_bad_values(field, value, match):
    with pytest.raises(ValueError, match=f"(?s){field}.*{match}|{match}.*{field}"):
        SorsaConfig(**{field: value})


@pytest.mark.parametrize("field", ["layers_to_transform", "layers_pattern"])
def test_layers_need_a_list_of_targets(field):
    with pytest.raises(ValueError, match=f"(?s){field}.*string"):
        SorsaConfig(target_modules="all-linear", **{field: [1] if field == "layers_to_transform" else "h"})


def test_copies_and_dictionaries():
    config = SorsaConfig(
        r=3, target_modules=["a", "b"], svd_cache="some/where", mode="residual", base_fingerprint=None
    )
    assert copy.deepcopy(config) == config
    stored = config.to_dict()
    assert stored["mode"] == "delta" and stored["svd_cache"] is None and stored["init_weights"] == "checkpoint"
    assert stored["base_fingerprint"] is None
    assert config.mode == "residual" and config.svd_cache == "some/where", "the live configuration was changed"


def test_file_is_strict_json(tmp_path):
    SorsaConfig(r=3, target_modules=["b", "a"], layer_replication=[(0, 2)]).save_pretrained(tmp_path)
    text = (tmp_path / "adapter_config.json").read_text()
    stored = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert stored["r"] == 3 and sorted(stored["target_modules"]) == ["a", "b"]
    loaded = SorsaConfig.from_pretrained(tmp_path)
    assert loaded.r == 3 and set(loaded.target_modules) == {"a", "b"} and loaded.init_weights == "checkpoint"


def test_configurations_do_not_share_their_defaults():
    first, second = SorsaConfig(), SorsaConfig()
    first.base_fingerprint["x"] = [0.0, 1.0, 0.1]
    first.rank_pattern["x"] = 3
    assert second.base_fingerprint == {} and second.rank_pattern == {}
