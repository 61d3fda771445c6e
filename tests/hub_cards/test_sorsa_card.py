# SPDX-License-Identifier: Apache-2.0
"""The card of a saved SORSA adapter: its code runs, its settings are the adapter's."""

import pytest
from huggingface_hub import ModelCard
from peft import get_peft_model

from eigenhub import SorsaConfig
from eigenhub.hub.cards import BLANK, write_card
from tests.house.doc_code import run_page
from tests.support.models import tiny_llama


@pytest.fixture
def adapter(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "base")
    base = type(tiny_llama()).from_pretrained(tmp_path / "base")
    model = get_peft_model(base, SorsaConfig(r=3, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_the_card_replaces_the_blank_one(adapter):
    assert BLANK in (adapter / "README.md").read_text()
    card = ModelCard.load(write_card(adapter, base_model="org/base"))
    assert BLANK not in card.content
    assert card.data.library_name == "peft"
    assert card.data.base_model == "org/base"
    assert card.data.pipeline_tag == "text-generation"
    assert "sorsa" in card.data.tags
    assert "| `r` | 3 |" in card.text


def test_no_figure_of_another_model_is_claimed(adapter):
    assert ModelCard.load(write_card(adapter)).data.eval_results is None


def test_the_code_of_the_card_runs_as_pasted(adapter, tmp_path):
    text = write_card(adapter, repo_id=str(adapter)).read_text()
    assert "AutoPeftModelForCausalLM" in text
    done = run_page(text, "README.md", tmp_path)
    assert done.returncode == 0, str(done)
    assert "q_proj" in done.stdout
