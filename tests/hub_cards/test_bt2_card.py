# SPDX-License-Identifier: Apache-2.0
"""The card of a saved BT2 model: its sizes and its old model, code that runs with this package and without it."""

import pytest
from huggingface_hub import ModelCard

from eigenhub.hub.cards import BLANK, write_card
from eigenhub.hub.export_model import export_model
from eigenhub.hub.results import DatasetRef, Measured, Results, save_results
from tests.house.doc_code import run_page
from tests.models.bt2.tiny_images import tiny_bt2, tiny_embedder, tiny_resnet
from tests.spaces.conftest import require_listed


pytestmark = require_listed("bt2")
OLD_MODEL = {"id": "shop/v1", "revision": "a1b2", "dim": 5, "preprocessing": "eval-224"}


def figure(name: str, value: float) -> Measured:
    return Measured(
        id=name,
        method="bt2" if name.startswith("new") else "teachers",
        task="image-feature-extraction",
        dataset=DatasetRef("eigenhub/glyphs", "glyphs", "test"),
        metric=name,
        value=value,
        setting="bt2, 5 steps",
        seeds=[0],
        command="eigenhub train bt2 --max_steps 5",
        hardware="CPU",
        date="2026-01-31",
        versions={"torch": "2.13.0"},
    )


def test_the_card_of_a_model(tmp_path):
    tiny_bt2(old_model=OLD_MODEL).save_pretrained(tmp_path)
    card = ModelCard.load(write_card(tmp_path, repo_id="org/shop-v2", base_model="org/trunk"))
    assert (card.data.library_name, card.data.base_model) == ("transformers", "org/trunk")
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert {"bt2", "backward-compatible"} <= set(card.data.tags) and BLANK not in card.content
    assert "# org/shop-v2" in card.text and "| `added_dim` | 2 |" in card.text
    assert "whose first 5 coordinates" in card.text and "while all 8 rank" in card.text
    assert "| old model | `shop/v1`, revision `a1b2` |" in card.text and "eval-224" in card.text
    assert card.data.eval_results is None, "figures of another model"


def test_figures_of_the_model_and_its_update_gain(tmp_path):
    tiny_bt2().save_pretrained(tmp_path)
    values = {"old-old-map": 0.2, "new-old-map": 0.3, "new-new-map": 0.55, "teacher-teacher-map": 0.6}
    save_results(Results("bt2", [figure(*item) for item in values.items()]), tmp_path / "results.yaml")
    card = ModelCard.load(write_card(tmp_path))
    assert "on the first day: 0.25." in card.text and "eigenhub train bt2 --max_steps 5" in card.text
    assert sorted(entry.metric_value for entry in card.data.eval_results) == [0.3, 0.55]
    assert "| old model | not recorded |" in card.text


@pytest.mark.parametrize("old_dim", [None, 4])
def test_the_card_of_a_baseline(old_dim, tmp_path):
    tiny_embedder(old_dim=old_dim).save_pretrained(tmp_path)
    text = write_card(tmp_path).read_text()
    assert "with 6 coordinates" in text and ("are bound to vectors of an old model" in text) == (old_dim is not None)
    assert "compat_embedding.shape" not in text and "| `influence_weight` | 10.0 |" in text


@pytest.mark.parametrize(
    "kind", ["bt2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("embedder", "with code", "resnet"))]
)
def test_the_code_of_the_card_runs_as_pasted(kind, tmp_path):
    folder = tmp_path / "model"
    if kind == "with code":
        export_model(tiny_bt2(), folder)
    else:
        (
            tiny_embedder() if kind == "embedder" else tiny_bt2(tiny_resnet() if kind == "resnet" else None)
        ).save_pretrained(folder)
    text = write_card(folder, repo_id=str(folder)).read_text()
    assert ("trust_remote_code=True)" in text) == (kind == "with code")
    done = run_page(text, "README.md", tmp_path)
    assert done.returncode == 0, str(done)
    widths = "[1, 6]" if kind == "embedder" else "[1, 8]"
    assert f"torch.Size({widths})" in done.stdout
