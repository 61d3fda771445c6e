# SPDX-License-Identifier: Apache-2.0
"""Export with code; that an export loads without this package is shown by the common tester of models."""

import json

import pytest
from transformers import AutoModelForCausalLM, BertConfig, BertModel

from eigenhub.cli import exporter_command
from eigenhub.hub.export_model import export_checkpoint, export_model
from eigenhub.models.s4d import S4DConfig, S4DForCausalLM
from eigenhub.models.s5_ptd import S5Config, S5ForCausalLM, S5ForSequencePairClassification, S5Model


TINY = {"hidden_size": 4, "state_size": 4, "num_hidden_layers": 1, "vocab_size": 5}


@pytest.fixture(params=["s5_ptd", "s4d"])
def model(request):
    if request.param == "s4d":
        return S4DForCausalLM(S4DConfig(**TINY))
    return S5ForCausalLM(S5Config(**TINY, num_blocks=1))


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_a_model_and_a_checkpoint_give_the_same_folder(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    first = export_model(model, tmp_path / "a")
    second = export_checkpoint(str(tmp_path / "saved"), tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    kind = model.config.model_type
    assert first.auto_map == second.auto_map == config_of(tmp_path / "a")["auto_map"]
    assert first.auto_map["AutoConfig"].startswith(f"configuration_{kind}.")
    assert first.auto_map["AutoModelForCausalLM"] == f"modeling_{kind}.{type(model).__name__}"
    assert first.num_code_files == len([name for name in names if name.endswith(".py")])
    assert config_of(tmp_path / "saved").get("auto_map") is None


def test_the_package_wins_over_the_code(model, tmp_path):
    export_model(model, tmp_path)
    for trust in (None, True):
        assert type(AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=trust)) is type(model)


def test_plain_saving_copies_no_code(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))


def test_a_class_without_an_auto_class_takes_the_name_it_asks_for(tmp_path):
    export = export_model(S5ForSequencePairClassification(S5Config(**TINY, num_blocks=1)), tmp_path)
    assert export.auto_map["AutoModelForSequenceClassification"].endswith(".S5ForSequencePairClassification")
    assert export.architecture == "S5ForSequencePairClassification"


def test_what_cannot_be_exported_is_named(tmp_path):
    bert = BertModel(BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4))
    with pytest.raises(ValueError, match="only models of eigenhub travel with their code, got transformers"):
        export_model(bert, tmp_path / "a")
    model = S5Model(S5Config(**TINY, num_blocks=1))
    model.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="`path` must be a folder that does not exist yet or is empty"):
        export_checkpoint(str(tmp_path / "saved"), tmp_path / "saved")
    config = config_of(tmp_path / "saved") | {"architectures": ["Nobody"]}
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"`architectures` .* must name a class of eigenhub.models.s5_ptd, got \['Nobody'\]"
    ):
        export_checkpoint(str(tmp_path / "saved"), tmp_path / "b")


def test_the_command_line_prints_what_was_written(tmp_path, capsys):
    S5Model(S5Config(**TINY, num_blocks=1)).save_pretrained(tmp_path / "saved")
    exporter_command(export_checkpoint)(tmp_path / "saved", tmp_path / "out")
    out = capsys.readouterr().out
    assert "architecture: S5Model" in out and f"path: {tmp_path / 'out'}" in out
