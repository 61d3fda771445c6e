# SPDX-License-Identifier: Apache-2.0
"""The card of a saved generator: what it is, whose licence, and code that runs with this package and without it."""

import pytest
from huggingface_hub import ModelCard

from eigenhub.hub.cards import BLANK, write_card
from eigenhub.hub.export_model import export_model
from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from tests.house.doc_code import run_page
from tests.models.stylegan2.tiny import TINY


def saved(folder, rank=None, **settings):
    model = StyleGAN2Generator(StyleGAN2Config(**TINY | settings))
    model = model if rank is None else model.add_projectors(rank=rank)
    model.save_pretrained(folder)
    return model


def test_the_card_of_projectors(tmp_path):
    saved(tmp_path, rank=3)
    card = ModelCard.load(write_card(tmp_path, repo_id="org/gan", base_model="org/base", directions=["b8.conv0"]))
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "unconditional-image-generation")
    assert (card.data.license, card.data.base_model) == ("other", "org/base")
    assert "householder" in card.data.tags and BLANK not in card.content
    assert "# org/gan" in card.text and "| `projector_rank` | 3 |" in card.text
    assert "generator of 16 x 16 images with Householder projectors of rank\n3" in card.text
    assert "`directions/` holds those of b8.conv0" in card.text and "model.traverse(" in card.text
    assert card.data.eval_results is None, "figures of another model"


def test_the_card_of_a_plain_generator_under_a_licence_of_its_own(tmp_path):
    saved(tmp_path)
    card = ModelCard.load(write_card(tmp_path, license="cc-by-4.0"))
    assert card.data.license == "cc-by-4.0"
    assert "model.traverse(" not in card.text and "`directions/`" not in card.text


@pytest.mark.parametrize("kind", ["projectors", pytest.param("with code, of classes", marks=pytest.mark.slow)])
def test_the_code_of_the_card_runs_as_pasted(kind, tmp_path):
    folder = tmp_path / "model"
    model = saved(folder, rank=2, c_dim=3 if kind != "projectors" else 0)
    if kind != "projectors":
        export_model(model, folder)
    text = write_card(folder, repo_id=str(folder)).read_text()
    assert ("trust_remote_code=True)" in text) == (kind != "projectors")
    done = run_page(text, "README.md", tmp_path)
    assert done.returncode == 0, str(done)
    assert "[4, 3, 16, 16]" in done.stdout and "[1, 3, 3, 16, 16]" in done.stdout
