# SPDX-License-Identifier: Apache-2.0
"""The events called as functions: modes against independent references, export, pictures, figures."""

import json
import zipfile

import gradio as gr
import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, AutoTokenizer, ViTImageProcessorPil

from eigenhub.embedded.digits import load_digits
from eigenhub.tuners.sorsa import SorsaLayer, spectrum_report
from tests.spaces.checks import check_endpoints_are_described
from tests.spaces.tiny_pairs import save_image_pair, save_text_pair


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return tuple(map(str, save_text_pair(tmp_path_factory.mktemp("text"))))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return tuple(map(str, save_image_pair(tmp_path_factory.mktemp("image"))))


@pytest.fixture
def gradient():
    return Image.linear_gradient("L").rotate(30)


def base_weights(pair):
    return [m.get_base_layer().weight for m in pair.model.modules() if isinstance(m, SorsaLayer)]


# ---------------------------------------------------------------- the three modes


def test_texts_equal_those_of_the_plain_models(sorsa, text):
    off, on, merged, sentence = sorsa.api.generate(*text, "the cat sat", 6.0)
    tokenizer = AutoTokenizer.from_pretrained(text[0])
    inputs = tokenizer("the cat sat", return_tensors="pt")
    length = inputs["input_ids"].shape[1]

    def answer(model):
        output = model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        return tokenizer.decode(output[0, length:], skip_special_tokens=True)

    plain = AutoModelForCausalLM.from_pretrained(text[0])
    assert off == answer(plain)
    dense = PeftModel.from_pretrained(plain, text[1]).merge_and_unload()
    assert on == merged == answer(dense) != off
    assert sentence == "The adapter changes the text. Merged, the model writes the same text as with the adapter on."


def test_probabilities_equal_those_of_the_plain_models(sorsa, image, gradient):
    off, on, merged, sentence = sorsa.api.classify(*image, gradient)
    small = gradient.resize((8, 8), Image.Resampling.BOX)
    pixels = torch.tensor(np.array(small)).view(1, 1, 8, 8) / 127.5 - 1
    plain = AutoModelForImageClassification.from_pretrained(image[0])
    with torch.no_grad():
        expected_off = plain(pixel_values=pixels).logits[0].softmax(-1)
        dense = PeftModel.from_pretrained(plain, image[1]).merge_and_unload()
        expected_on = dense(pixel_values=pixels).logits[0].softmax(-1)
    for row, expected in ((off, expected_off), (on, expected_on), (merged, expected_on)):
        assert list(row) == [str(i) for i in range(10)]
        assert_close(torch.tensor(list(row.values())), expected)
    assert (expected_off - expected_on).abs().max() > 1e-2  # otherwise the three would be easy to confuse
    assert "Merging changes no probability by more than" in sentence


def test_merging_leaves_the_base_weights_as_they_were(sorsa, text):
    pair = sorsa.pairs.load_pair(*text)
    before = [weight.clone() for weight in base_weights(pair)]
    with sorsa.modes.merged(pair.model):
        assert not any(torch.equal(a, b) for a, b in zip(before, base_weights(pair), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, base_weights(pair), strict=True))


def test_a_failure_in_one_mode_leaves_the_model_usable(sorsa, text):
    pair = sorsa.pairs.load_pair(*text)
    before = [weight.clone() for weight in base_weights(pair)]
    calls = []

    def fail_when_merged(model, device):
        calls.append(device)
        if len(calls) == 3:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        sorsa.modes.in_each_mode(pair, fail_when_merged)
    assert all(torch.equal(a, b) for a, b in zip(before, base_weights(pair), strict=True))
    assert not pair.lock.locked()
    assert sorsa.modes.in_each_mode(pair, lambda model, device: 1) == {"off": 1, "on": 1, "merged": 1}


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("", "Write a prompt first"), ("the cat sat " * 40, r"cannot be continued: it has \d+ tokens; .* takes 1 to 63")],
)
def test_prompts_that_cannot_be_continued(sorsa, text, prompt, said):
    with pytest.raises(gr.Error, match=said):
        sorsa.api.generate(*text, prompt, 4)


def test_a_continuation_ends_where_the_model_does(sorsa, text):
    """The tiny Llama has 64 positions; a longer wish is cut."""
    tokenizer = AutoTokenizer.from_pretrained(text[0])
    off, *_ = sorsa.api.generate(*text, "the cat", 1000)
    assert len(tokenizer("the cat")["input_ids"]) + len(tokenizer(off)["input_ids"]) <= 64 + 2


def test_no_image(sorsa, image):
    with pytest.raises(gr.Error, match="Choose a digit, draw one, or upload"):
        sorsa.api.classify(*image, None)


@pytest.mark.parametrize(("best_on", "said"), [("a", "leaves the answer at **a**"), ("b", "from **a** to **b**")])
def test_verdict(sorsa, best_on, said):
    on = {"a": 0.25, "b": 0.25, best_on: 0.75}
    answers = {"off": {"a": 0.75, "b": 0.25}, "on": on, "merged": {k: v + 0.125 for k, v in on.items()}}
    verdict = sorsa.api.verdict(answers)
    assert said in verdict and "by more than 1.2e-01" in verdict


# ---------------------------------------------------------------- spectrum


def test_inspect_reports_what_the_factors_hold(sorsa, text):
    rows = sorsa.api.inspect(*text)
    report = spectrum_report(sorsa.pairs.load_pair(*text).model)
    assert [row["module"] for row in rows] == list(report)
    for row, entry in zip(rows, report.values(), strict=True):
        assert row["rank"] == 4
        assert (row["kappa_before"], row["kappa_after"]) == (entry.kappa0, entry.kappa)
        assert (row["defect_u"], row["defect_v"]) == (entry.defect_u, entry.defect_v)
        assert row["angle_degrees"] == pytest.approx(entry.angle * 180 / np.pi)
        assert (row["s_before"], row["s_after"]) == (entry.s0.tolist(), entry.s.tolist())
        moved = [
            abs(abs(after) - before) / before for before, after in zip(row["s_before"], row["s_after"], strict=True)
        ]
        assert row["relative_change"] == pytest.approx(np.mean(moved), rel=1e-5)
    json.dumps(rows)


def test_the_page_fits_the_pair(sorsa, text, image):
    for (base, adapter), is_image in ((text, False), (image, True)):
        pair = sorsa.pairs.load_pair(base, adapter)
        summary, table, module, values, _, _, image_side, digit_side, digits, shown, text_side, prompt, rank = (
            sorsa.page.show(base, adapter)
        )
        assert f"of {type(pair.model.get_base_model()).__name__}, each through 4 singular triplets" in summary
        assert len(table) == len(pair.spectra) and {len(row) for row in table} == {len(sorsa.names.HEADERS)}
        assert len(sorsa.names.HEADERS) == len(sorsa.names.DATATYPES)
        assert table[0][2:4] == pytest.approx(
            [next(iter(pair.spectra.values())).kappa0, next(iter(pair.spectra.values())).kappa], rel=1e-3
        )
        assert module.value == next(iter(pair.spectra))
        assert list(values.axes[0].lines[0].get_ydata()) == pytest.approx(pair.spectra[module.value].s0.tolist())
        assert (image_side.visible, text_side.visible) == (is_image, not is_image)
        assert (digit_side.visible, digits, shown, prompt) == (False, [], None, "")
        assert (rank.value, rank.info) == (8, "8 is exact, less is compressed")


def test_figures_over_the_depth(sorsa, text):
    report = sorsa.pairs.load_pair(*text).spectra
    condition, orthonormality = (
        figure(report).axes[0] for figure in (sorsa.reports.condition_figure, sorsa.reports.orthonormality_figure)
    )
    layers = [entry for name, entry in report.items() if name.endswith("v_proj")]
    assert [line.get_label() for line in orthonormality.lines] == ["q_proj", "v_proj"]
    _, v_proj = orthonormality.lines
    assert list(v_proj.get_xdata()) == [0, 1]
    assert list(v_proj.get_ydata()) == pytest.approx([(e.defect_u + e.defect_v) / 2 for e in layers])
    assert list(condition.lines[2].get_ydata()) == pytest.approx([e.kappa / e.kappa0 for e in layers])


def test_spectrum_plots_before_and_after(sorsa, text):
    figure = sorsa.page.plot(*text, "model.layers.1.self_attn.v_proj")
    entry = spectrum_report(sorsa.pairs.load_pair(*text).model)["model.layers.1.self_attn.v_proj"]
    before, after = figure.axes[0].lines
    assert list(before.get_ydata()) == pytest.approx(entry.s0.tolist())
    assert list(after.get_ydata()) == pytest.approx(entry.s.abs().tolist())


def test_places_of_one_name_are_told_apart_and_numberless_modules_stand_at_zero(sorsa, text):
    entry = next(iter(sorsa.pairs.load_pair(*text).spectra.values()))
    names = ["encoder.0.attn.proj", "encoder.1.attn.proj", "encoder.0.mlp.proj", "head"]
    lines = sorsa.reports.orthonormality_figure(dict.fromkeys(names, entry)).axes[0].lines
    points = {line.get_label(): list(line.get_xdata()) for line in lines}
    assert points == {"attn.proj": [0, 1], "mlp.proj": [0], "head": [0]}


# ---------------------------------------------------------------- export


def test_exact_export_gives_the_same_logits_in_stock_peft(sorsa, text, tmp_path):
    file, sentence = sorsa.api.export(*text, 8.0)
    assert sentence == "Rank 8 is exact."
    zipfile.ZipFile(file).extractall(tmp_path)
    lora = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(text[0]), tmp_path)
    assert lora.peft_config["default"].peft_type == "LORA"
    tokens = torch.tensor([[4, 5, 6, 7]])
    with torch.no_grad():
        expected = sorsa.pairs.load_pair(*text).model(input_ids=tokens).logits
        assert_close(lora(input_ids=tokens).logits, expected, rtol=1e-4, atol=1e-4)


def test_compressed_export_says_what_it_keeps(sorsa, text):
    _, sentence = sorsa.api.export(*text, 2)
    assert sentence.startswith("Rank 2 keeps **") and "model.layers." in sentence


def test_export_beyond_the_rank(sorsa, text):
    with pytest.raises(gr.Error, match="cannot be exported: `rank` must be between 1 and 8"):
        sorsa.api.export(*text, 9)


# ---------------------------------------------------------------- pictures and the page


def test_a_sample_digit_reaches_the_model_as_it_is_in_the_data(sorsa, image):
    columns = load_digits()["test"][:]
    config = AutoModelForImageClassification.from_pretrained(image[0]).config
    for digit, shown in enumerate(sorsa.pictures.sample_digits()):
        expected = columns["pixel_values"][columns["labels"].tolist().index(digit)]
        assert_close(sorsa.pictures.to_pixel_values(shown, config, None)[0], expected, rtol=0, atol=0.51 / 127.5)


def test_colour_images_and_image_processors(sorsa, tmp_path, gradient):
    base, adapter = save_image_pair(tmp_path, num_channels=3)
    bare = sorsa.pairs.load_pair(str(base), str(adapter))
    assert bare.processor is None
    assert sorsa.pictures.to_pixel_values(gradient, bare.model.config, None).shape == (1, 3, 8, 8)
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    processor.save_pretrained(base)
    sorsa.pairs._load.cache_clear()
    pair = sorsa.pairs.load_pair(str(base), str(adapter))
    found = sorsa.pictures.to_pixel_values(gradient, pair.model.config, pair.processor)
    assert_close(found, processor(images=gradient.convert("RGB"), return_tensors="pt")["pixel_values"])


def drawing_of(box):
    drawing = Image.new("RGBA", (100, 100))
    drawing.paste((79, 70, 229, 255), box)
    return [drawing]


def test_a_drawing_is_cut_to_its_strokes_and_centred(sorsa):
    """A stroke of 20 x 80 anywhere becomes two full columns in the middle of eight."""
    digit = sorsa.page.digit_of(drawing_of((10, 15, 30, 95))).resize((8, 8), Image.Resampling.BOX)
    assert np.array(digit).tolist() == [[0, 0, 0, 255, 255, 0, 0, 0]] * 8


@pytest.mark.parametrize("drawing", [[], drawing_of((0, 0, 0, 0))])
def test_an_empty_drawing(sorsa, drawing):
    with pytest.raises(gr.Error, match="Nothing has been drawn"):
        sorsa.page.digit_of(drawing)


def test_an_embedded_base_takes_its_adapter_along(sorsa):
    assert sorsa.page.follow("embedded:problems") == "embedded:problems"
    assert sorsa.page.follow("me/base") == gr.skip()


def test_every_public_endpoint_is_described(sorsa):
    check_endpoints_are_described(sorsa.app.demo, ["inspect", "classify", "generate", "export"])
