# SPDX-License-Identifier: Apache-2.0
"""Registration with PEFT: idempotent, guarded, and without harm to PEFT's own methods."""

import enum
import json

import peft
import pytest
from peft import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
    LoraConfig,
    PeftConfig,
    PeftType,
    get_peft_model,
)
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

from eigenhub.tuners.registry import EigenhubPeftType, register_tuner
from eigenhub.tuners.sorsa import SorsaConfig, SorsaModel
from tests.support.models import tiny_llama
from tests.support.processes import run_python
from tests.tuners.sorsa.helpers import adapted_llama, logits


MAPPINGS = (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING)


def test_registration_is_idempotent():
    before = [dict(mapping) for mapping in MAPPINGS]
    register_tuner(EigenhubPeftType.SORSA, SorsaConfig, SorsaModel)
    assert [dict(mapping) for mapping in MAPPINGS] == before
    assert [mapping["SORSA"] for mapping in MAPPINGS] == [SorsaConfig, SorsaModel, "sorsa_"]
    assert all(sum(key == "SORSA" for key in mapping) == 1 for mapping in MAPPINGS)


def test_a_name_that_peft_brings_itself_is_not_replaced(monkeypatch):
    class TheirConfig(PeftConfig):
        pass

    monkeypatch.setitem(PEFT_TYPE_TO_CONFIG_MAPPING, "SORSA", TheirConfig)
    with pytest.raises(RuntimeError, match="(?s)already has a method named 'SORSA'.*TheirConfig"):
        register_tuner(EigenhubPeftType.SORSA, SorsaConfig, SorsaModel)
    assert PEFT_TYPE_TO_CONFIG_MAPPING["SORSA"] is TheirConfig


def test_members_behave_like_those_of_peft():
    member = EigenhubPeftType.SORSA
    assert (
        isinstance(member, str) and isinstance(member, enum.Enum) and member == "SORSA" == member.value == member.name
    )
    assert hash(member) == hash("SORSA") and json.dumps(member) == '"SORSA"'
    assert str(member).partition(".")[-1] == str(PeftType.LORA).replace("LORA", "SORSA").partition(".")[-1] == "SORSA"
    assert "SORSA" not in PeftType.__members__


def test_status_names_the_method():
    assert adapted_llama().get_model_status().peft_types == {"default": "SORSA"}


def test_all_other_methods_still_round_trip(tmp_path):
    for peft_type, config_class in list(PEFT_TYPE_TO_CONFIG_MAPPING.items()):
        if isinstance(peft_type, PeftType):
            (tmp_path / peft_type.value).mkdir()
            (tmp_path / peft_type.value / "adapter_config.json").write_text(json.dumps({"peft_type": peft_type.value}))
            assert PeftConfig._get_peft_type(tmp_path / peft_type.value) == peft_type
            assert PEFT_TYPE_TO_CONFIG_MAPPING[peft_type.value] is config_class
    assert {t.value for t in PeftType} <= {getattr(t, "value", t) for t in PEFT_TYPE_TO_CONFIG_MAPPING}
    model = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
    model.save_pretrained(tmp_path / "lora")
    assert (logits(peft.PeftModel.from_pretrained(tiny_llama(), tmp_path / "lora")) == logits(model)).all()


LOAD = """
import sys
from peft import PeftModel
from tests.support.models import tiny_llama

try:
    PeftModel.from_pretrained(tiny_llama(), sys.argv[1])
except KeyError as error:
    print(error)
import eigenhub.auto
import eigenhub.auto
model = PeftModel.from_pretrained(tiny_llama(), sys.argv[1])
print('"' + type(model.base_model).__name__ + '"')
"""


def test_a_process_without_our_import_fails_as_documented_and_one_import_mends_it(tmp_path):
    adapted_llama(moved=True).save_pretrained(tmp_path / "adapter")
    finished = run_python(LOAD, str(tmp_path / "adapter"), folder=tmp_path)
    assert "'SORSA'" in finished.stdout and finished.result == "SorsaModel"
