# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from eigenhub.hub.saved import read_saved


def test_an_adapter_folder_is_recognised(saved_toy, toy):
    saved = read_saved(saved_toy)
    assert saved.method == toy
    assert saved.config["r"] == 3


def test_a_model_folder_is_recognised(toy, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "TOY"}')
    assert read_saved(tmp_path).method == toy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"peft_type": "LORA"}', "`peft_type` of .*adapter_config.json must be one of TOY; got 'LORA'"),
        ("{}", "must be one of TOY; got None"),
        ("[]", "must hold .*, got list"),
        ("{", "is not JSON"),
    ],
)
def test_a_foreign_or_broken_configuration_is_named(toy, tmp_path, text, message):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_saved(tmp_path)


def test_a_folder_without_configuration_is_named(toy, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds none of adapter_config.json, config.json"):
        read_saved(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        read_saved(tmp_path / "nowhere")


def test_an_ordinary_adapter_with_a_methods_record_is_that_methods(monkeypatch, made_up_method, tmp_path):
    method = dataclasses.replace(made_up_method, record_files=("made_up.json", "more.json"))
    monkeypatch.setattr("eigenhub.hub.saved.METHODS", (method,))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "made_up.json").write_text('{"rounds": 7}')
    saved = read_saved(tmp_path)
    assert saved.method == method and saved.records == {"made_up.json": {"rounds": 7}}
    (tmp_path / "more.json").write_text("[]")
    with pytest.raises(ValueError, match="more.json must hold .*, got list"):
        read_saved(tmp_path)


def test_a_record_beside_an_architecture_of_ours_changes_nothing(monkeypatch, made_up_method, tmp_path):
    recorder = dataclasses.replace(made_up_method, slug="recorder", saved_as=(), record_files=("made_up.json",))
    monkeypatch.setattr("eigenhub.hub.saved.METHODS", (recorder, made_up_method))
    (tmp_path / "config.json").write_text('{"model_type": "TOY"}')
    (tmp_path / "made_up.json").write_text("{}")
    assert read_saved(tmp_path).method == made_up_method
