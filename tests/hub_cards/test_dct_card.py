# SPDX-License-Identifier: Apache-2.0
"""The card of a model that these optimizers have trained; that its code runs is shown in tests/hub_users."""

import json

from huggingface_hub import ModelCard

from eigenhub.hub.cards import BLANK, write_card
from eigenhub.optim import OptimizerConfig


def test_the_card_of_a_trained_model(tmp_path):
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    OptimizerConfig("trion", {"lr": 0.02, "rank": 0.25}).save_pretrained(tmp_path)
    card = ModelCard.load(write_card(tmp_path, repo_id="org/small", base_model="org/base"))
    assert (card.data.library_name, card.data.base_model) == ("transformers", "org/base")
    assert card.data.pipeline_tag == "text-generation" and BLANK not in card.content
    assert "# org/small" in card.text and "| `rank` | 0.25 |" in card.text
    assert 'AutoModelForCausalLM.from_pretrained("org/small")' in card.text
    assert card.data.eval_results is None, "figures of another model"


def test_an_encoder_is_loaded_by_its_own_class(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    OptimizerConfig("auon", {"lr": 0.02}).save_pretrained(tmp_path)
    card = ModelCard.load(write_card(tmp_path))
    assert card.data.pipeline_tag is None and "ViTModel.from_pretrained(" in card.text
