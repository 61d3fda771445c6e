# SPDX-License-Identifier: Apache-2.0
"""What a visitor may name, and what the page says where it cannot be shown."""

import gradio as gr
import pytest
from transformers import T5Config

from tests.spaces.tiny_pairs import save_image_pair, save_lora, save_text_pair
from tests.support.models import tiny_llama


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    text, image = save_text_pair(folder), save_image_pair(folder)
    other = folder / "other-llama"
    tiny_llama(seed=1).save_pretrained(other)
    T5Config().save_pretrained(folder / "t5")
    names = {"llama": text[0], "llama-sorsa": text[1], "vit": image[0], "vit-sorsa": image[1]}
    return {name: str(path) for name, path in (names | {"lora": save_lora(folder), "other": other}).items()} | {
        "t5": str(folder / "t5"),
        "nothing": str(folder / "nothing"),
        "": "",
    }


def test_a_pair_of_folders_loads(sorsa, folders):
    pair = sorsa.pairs.load_pair(f" {folders['llama']} ", folders["llama-sorsa"])
    assert (pair.kind, pair.base) == ("text", folders["llama"])
    assert len(pair.spectra) == 4
    assert not pair.model.training


def test_an_empty_base_is_the_one_that_the_adapter_names(sorsa, folders):
    assert sorsa.pairs.load_pair(None, folders["llama-sorsa"]).base == folders["llama"]


def test_the_last_pair_is_not_loaded_again(sorsa, folders):
    first = sorsa.pairs.load_pair(folders["vit"], folders["vit-sorsa"], "image")
    assert sorsa.pairs.load_pair(folders["vit"], folders["vit-sorsa"]) is first


@pytest.mark.parametrize(
    ("base", "adapter", "said"),
    [
        ("llama", "", "Name a SORSA adapter"),
        ("llama", "nothing", "Cannot load the adapter .*nothing.*adapter_config.json"),
        ("llama", "lora", "is a LORA adapter; this page shows SORSA adapters only"),
        ("nothing", "llama-sorsa", "Cannot load the base model .*nothing"),
        ("t5", "llama-sorsa", "Cannot load the base model .*it is a t5 model"),
        ("vit", "llama-sorsa", "llama-sorsa.* does not fit the base model .*vit"),
        ("other", "llama-sorsa", "Cannot load the base model .*other"),  # it has no tokenizer
    ],
)
def test_what_cannot_be_shown_is_said(sorsa, folders, base, adapter, said):
    with pytest.raises(gr.Error, match=said):
        sorsa.pairs.load_pair(folders[base], folders[adapter])


def test_an_adapter_without_a_base_asks_for_one(sorsa, folders, monkeypatch):
    class Nameless(sorsa.pairs.SorsaConfig):
        @classmethod
        def from_pretrained(cls, *_):
            return sorsa.pairs.SorsaConfig()

    monkeypatch.setattr(sorsa.pairs, "PeftConfig", Nameless)
    with pytest.raises(gr.Error, match="does not say which base model"):
        sorsa.pairs.load_pair("", "nameless")


@pytest.mark.parametrize(
    ("name", "kind", "said"), [("llama", "image", "a language model"), ("vit", "text", "an image cl")]
)
def test_a_comparison_of_the_other_kind_is_refused(sorsa, folders, name, kind, said):
    with pytest.raises(gr.Error, match=f"is {said}.*this comparison needs"):
        sorsa.pairs.load_pair(folders[name], folders[f"{name}-sorsa"], kind)


def test_weights_of_another_model_are_noticed(sorsa, folders, tmp_path):
    """Same shapes, other values: the adapter's fingerprint of its base does not match."""
    from tests.support.models import tiny_tokenizer

    tiny_llama(seed=1).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(gr.Error, match="does not fit the base model"):
        sorsa.pairs.load_pair(str(tmp_path), folders["llama-sorsa"])


def test_embedded_names_cannot_be_hub_ids(sorsa):
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    assert set(sorsa.embedded_pairs.EMBEDDED) == set(sorsa.names.CHOICES)
    for name in sorsa.names.CHOICES:
        with pytest.raises(HFValidationError):
            validate_repo_id(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embedded:digits", "embedded:problems"])
def test_the_embedded_adapters_have_learned_their_task(sorsa, name):
    """The adapter matters, and the penalty has kept its vectors near orthonormal."""
    pair = sorsa.pairs.load_pair(name, name)
    defects = [value for entry in pair.spectra.values() for value in (entry.defect_u, entry.defect_v)]
    assert sum(defects) / len(defects) < 0.05
    if pair.kind == "text":
        answers = sorsa.modes.continuations(pair, sorsa.names.SAMPLE_PROMPT, 48)
        assert "left" in answers["on"] and "left" not in answers["off"]
        return
    hits = dict.fromkeys(sorsa.modes.MODES, 0)
    for digit, image in enumerate(sorsa.pictures.sample_digits()):
        for mode, row in sorsa.modes.class_probabilities(pair, image).items():
            hits[mode] += max(row, key=row.get) == str(digit)
    assert hits["off"] <= 5 and hits["on"] == hits["merged"] >= 9
