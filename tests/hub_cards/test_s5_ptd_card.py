# SPDX-License-Identifier: Apache-2.0
"""The card of a saved state space model: for every head a card, whose code runs, with this package and without it."""

import pytest
from huggingface_hub import ModelCard

from eigenhub.hub.cards import BLANK, write_card
from eigenhub.hub.export_model import export_model
from eigenhub.models import s4d, s5_ptd
from tests.house.doc_code import run_page


HEADS = {
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": None,
    "ForSequencePairClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "ForAudioClassification": "audio-classification",
    "ForTimeSeriesRegression": "time-series-forecasting",
    "Model": None,
}
SHAPE = {"hidden_size": 8, "state_size": 8, "num_hidden_layers": 1}


def tiny(family: str, head: str):
    reads = {"vocab_size": 30} if head in ("ForCausalLM", "ForSequencePairClassification") else {"input_size": 1}
    if family == "s4d":
        return getattr(s4d, f"S4D{head}")(s4d.S4DConfig(**SHAPE, **reads))
    return getattr(s5_ptd, f"S5{head}")(s5_ptd.S5Config(num_blocks=1, **SHAPE, **reads))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_its_card(head, tmp_path):
    model = tiny("s5_ptd", head)
    model.save_pretrained(tmp_path)
    card = ModelCard.load(write_card(tmp_path, repo_id="org/long"))
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == HEADS[head]
    assert "s5_ptd" in card.data.tags and BLANK not in card.content
    assert "# org/long" in card.text and "| `init` | ptd |" in card.text
    assert f"condition number {model.config.ptd_info['kappa']:.2f}" in card.text
    assert card.data.eval_results is None, "figures of another model"


@pytest.mark.parametrize(
    ("family", "head", "with_code", "printed"),
    [
        ("s5_ptd", "ForCausalLM", False, "1, 2, 3,"),
        pytest.param("s4d", "ForImageClassification", True, "{'logits': (1, 2)}", marks=pytest.mark.slow),
    ],
)
def test_the_code_of_the_card_runs_as_pasted(family, head, with_code, printed, tmp_path):
    model, folder = tiny(family, head), tmp_path / "model"
    if with_code:
        export_model(model, folder)
    else:
        model.save_pretrained(folder)
    text = write_card(folder, repo_id=str(folder)).read_text()
    assert ("trust_remote_code=True)" in text) == with_code
    done = run_page(text, "README.md", tmp_path)
    assert done.returncode == 0, str(done)
    assert printed in " ".join(done.stdout.split())
