# SPDX-License-Identifier: Apache-2.0
"""The events called as functions: noise against the models themselves, gains and pseudospectra against mathematics, memory."""

import json
from itertools import pairwise

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from eigenhub.embedded.drawn_digits import sample_digits
from eigenhub.embedded.sequential_digits import enlarge
from eigenhub.linalg.hippo import gain_peaks, hippo_legs, lowrank_gain
from eigenhub.models.s5_ptd import FourierNoise
from tests.spaces.checks import check_endpoints_are_described
from tests.spaces.conftest import modules_of
from tests.spaces.tiny_state_space import save_models, tiny_classifier
from tests.support.models import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def s5_ptd():
    with modules_of("s5_ptd") as modules:
        yield modules


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state-space")
    classifier, writer = save_models(folder)
    tiny_llama().save_pretrained(folder / "llama")
    tiny_tokenizer().save_pretrained(folder / "llama")
    tiny_classifier(input_size=3).save_pretrained(folder / "colour")
    return {"classifier": classifier, "writer": writer} | {n: str(folder / n) for n in ("llama", "colour", "nothing")}


@pytest.fixture
def untrained(s5_ptd, monkeypatch, folders):
    """A tiny model stands for the three embedded classifiers, so that nothing is trained."""
    monkeypatch.setattr(s5_ptd.classifiers, "classifier_folder", lambda init: folders["classifier"])
    s5_ptd.classifiers.load_classifier.cache_clear()
    yield folders["classifier"]
    s5_ptd.classifiers.load_classifier.cache_clear()


# ---------------------------------------------------------------- noise


def test_probabilities_are_those_of_the_model_under_noise(s5_ptd, untrained):
    digit = sample_digits()[4]
    answers = s5_ptd.api.classify(s5_ptd.pictures.shown(digit), 0.7, "legs", f" {untrained} ")
    omega = answers.pop("omega")
    assert omega == pytest.approx(325.42632, abs=1e-4)
    model = s5_ptd.classifiers.load_classifier(untrained)
    pixels = enlarge(s5_ptd.pictures.digit_from_image(s5_ptd.pictures.shown(digit)), 2)
    with torch.no_grad(), FourierNoise(0.7, omega).applied_to(model):
        expected = model(pixel_values=pixels.expand(16, -1, -1, -1)).logits.softmax(-1).mean(0)
    with torch.no_grad():
        clean = model(pixel_values=pixels[None]).logits.softmax(-1)[0]
    assert set(answers) == {"legs", "ptd", "lowrank", "other"}
    for row in answers.values():
        assert list(row) == [str(i) for i in range(10)]
        assert_close(torch.tensor(list(row.values())), expected)
    assert (expected - clean).abs().max() > 1e-4  # of an untrained model
    quiet = s5_ptd.api.classify(s5_ptd.pictures.shown(digit), 0, "low", "")
    assert_close(torch.tensor(list(quiet["ptd"].values())), clean, atol=1e-5, rtol=0)
    assert "other" not in quiet


def test_frequencies_are_the_peaks(s5_ptd):
    assert s5_ptd.classifiers.frequency("low") == 5
    own = s5_ptd.classifiers.frequency("ptd")
    gains = s5_ptd.transfer_figure.relative_gain("ptd", 32, torch.tensor([own - 1, own, own + 1]).double())
    assert gains[1] == gains.max() > 1.2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((None, 0.3, "legs", ""), "Choose a digit or draw one"),
        ((Image.new("L", (8, 8)), -1, "legs", ""), "between 0 and 2, got -1"),
        ((Image.new("L", (8, 8)), 0.3, "loud", ""), "must be one of legs, ptd, low"),
    ],
)
def test_what_cannot_be_classified_is_said(s5_ptd, arguments, said):
    with pytest.raises(gr.Error, match=said):
        s5_ptd.api.classify(*arguments)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing", "Cannot load"), ("llama", "Cannot load"), ("colour", "no S5 or S4D classifier of images with one")],
)
def test_other_models_are_refused(s5_ptd, folders, untrained, name, said):
    with pytest.raises(gr.Error, match=said):
        s5_ptd.api.classify(Image.new("L", (8, 8)), 0.3, "legs", folders[name])


def test_a_digit_reaches_the_models_as_it_is_in_the_data(s5_ptd):
    for digit, image in zip(sample_digits(), s5_ptd.pictures.sample_images(), strict=True):
        assert_close(s5_ptd.pictures.digit_from_image(image), digit, rtol=0, atol=0.51 / 127.5)


def test_drawing(s5_ptd):
    drawing = Image.new("RGBA", (100, 100))
    assert s5_ptd.pictures.digit_from_drawing(drawing) is None
    drawing.paste((79, 70, 229, 255), (10, 15, 30, 95))
    digit = np.array(s5_ptd.pictures.digit_from_drawing(drawing).resize((8, 8), Image.Resampling.BOX))
    assert digit.tolist() == [[0, 0, 0, 255, 255, 0, 0, 0]] * 8
    for layers in ([], [Image.new("RGBA", (4, 4))]):
        with pytest.raises(gr.Error, match="Nothing has been drawn"):
            s5_ptd.noise_tab.take({"layers": layers}, 0.3, "legs", "")


def test_sentence(s5_ptd):
    row = {"3": 0.75, "8": 0.25}
    answers = {"legs": {"3": 0.2, "8": 0.8}, "ptd": row, "lowrank": row}
    words = s5_ptd.noise_tab.sentence(answers, 0.5, 325.426)
    assert words.startswith(
        "With noise of amplitude 0.5 at ω = 325.4: S4D-LegS (diagonal part) says **8** (80%); S4-PTD"
    )
    assert "With no noise" in s5_ptd.noise_tab.sentence(answers, 0, 325.426)


def test_figures_of_the_noise(s5_ptd):
    amplitudes = s5_ptd.classifiers.AMPLITUDES
    curves = {init: {"legs": [1 - a / 2 for a in amplitudes]} for init in s5_ptd.names.INITS}
    axes = s5_ptd.noise_figure.accuracy_figure(curves, "legs", 0.3).axes[0]
    assert list(axes.lines[0].get_xdata()) == list(amplitudes)
    assert list(axes.lines[2].get_ydata()) == [100 - 50 * a for a in amplitudes]
    digit = sample_digits()[2]
    noisy, clean = s5_ptd.noise_figure.sequence_figure(digit, 1.0, 325.4).axes[0].lines
    assert_close(torch.tensor(clean.get_ydata()).view(16, 16)[::2, ::2], digit[0])
    assert 0 < np.abs(noisy.get_ydata() - clean.get_ydata()).max() <= 1


# ---------------------------------------------------------------- mathematics


@pytest.mark.parametrize("order", [8, 16, 32, 64])
def test_gains(s5_ptd, order):
    found = s5_ptd.api.transfer(order)
    peak, gain = gain_peaks(order, 1)
    assert found["at"]["legs"] == pytest.approx(peak.item(), abs=1e-3)
    assert found["largest"]["legs"] == pytest.approx(gain.item(), rel=1e-6)
    assert found["largest"]["lowrank"] < 1 / 0.9
    assert found["largest"]["ptd"] < 2
    grid, gains = (torch.tensor(row, dtype=torch.float64) for row in (found["frequencies"], found["gains"]["legs"]))
    assert_close(gains, lowrank_gain(order, grid, 1.0), rtol=1e-12, atol=0)
    json.dumps(found)
    with pytest.raises(gr.Error, match="must be one of 8, 16, 32, 64"):
        s5_ptd.api.transfer(order + 1)


def test_low_rank_by_formula_is_the_matrix(s5_ptd):
    """The closed form, against dense systems with the perturbed matrix."""
    frequencies = torch.tensor([0.3, 20.0, 81.0]).double()
    a, b, p = hippo_legs(16)
    one = torch.eye(16, dtype=torch.cdouble)
    solved = [
        torch.linalg.solve(1j * w * one - a - 0.1 * torch.outer(p, p), (0.95 * b).cdouble()) for w in frequencies
    ]
    exact = [torch.linalg.solve(1j * w * one - a, b.cdouble()) for w in frequencies]
    ratio = torch.stack([x.norm() / y.norm() for x, y in zip(solved, exact, strict=True)])
    assert_close(s5_ptd.transfer_figure.relative_gain("lowrank", 16, frequencies), ratio, rtol=1e-9, atol=0)


def test_pseudospectrum_is_the_smallest_singular_value(s5_ptd):
    found = s5_ptd.api.pseudospectrum("lowrank", 8)
    matrix = s5_ptd.pseudo_figure.matrix_of("lowrank", 8)
    x, y = found["real"][10], found["imaginary"][50]
    smallest = torch.linalg.svdvals(complex(x, y) * torch.eye(8, dtype=torch.cdouble) - matrix)[-1]
    assert found["log_distance"][50][10] == pytest.approx(smallest.log10().item(), abs=1e-9)
    assert len(found["eigenvalues"]) == 8


def test_what_the_pseudospectra_say(s5_ptd):
    kappas = {name: s5_ptd.api.pseudospectrum(name, 16)["kappa"] for name in s5_ptd.names.MATRICES}
    assert kappas["hippo"] > 1e9 and kappas["legs"] == pytest.approx(1, abs=1e-6)
    assert kappas["ptd"] < 7 and kappas["lowrank"] < 20
    depth = {n: np.array(s5_ptd.api.pseudospectrum(n, 16)["log_distance"]).min() for n in ("hippo", "ptd")}
    assert depth["hippo"] < -8 < -3 < depth["ptd"]
    assert (s5_ptd.pseudo_tab.condition(None), s5_ptd.pseudo_tab.condition(8.3e10)) == ("∞", "8e+10")
    with pytest.raises(gr.Error, match="must be one of hippo, legs"):
        s5_ptd.api.pseudospectrum("companion", 16)


def test_tabs_show_what_the_endpoints_say(s5_ptd):
    facts, figure = s5_ptd.transfer_tab.show(16)
    assert "52.71 ×" in facts and len(figure.axes[0].lines) == 3
    facts, left, right = s5_ptd.pseudo_tab.show(8, "legs")
    assert "its normal part" in facts
    assert (left.axes[0].get_title(loc="left"), right.axes[0].get_title(loc="left")) == (
        s5_ptd.names.MATRICES["hippo"],
        s5_ptd.names.MATRICES["legs"],
    )


# ---------------------------------------------------------------- memory


def test_the_state_has_one_size_and_the_text_is_the_greedy_one(s5_ptd, folders):
    found = s5_ptd.api.generate("the cat", 21, 0.0, folders["writer"])
    model, tokenizer = s5_ptd.writers.load_writer(folders["writer"])
    ids = tokenizer("the cat", return_tensors="pt")["input_ids"]
    whole = model.generate(ids, max_new_tokens=21, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert found["text"] == tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
    assert found["tokens"][-1] == whole.shape[1] and len(found["tokens"]) == 8
    states = 2 * model.config.num_states * 2 * 4  # layers, states, real and imaginary part, bytes
    assert found["state_bytes"] == [states] * 8
    sizes = [second - first for first, second in pairwise(found["tokens"])]
    grown = [second - first for first, second in pairwise(found["attention_bytes"])]
    assert grown == [2 * 2 * 8 * 4 * size for size in sizes]
    again = s5_ptd.api.generate("the cat", 21, 1.0, folders["writer"], 3)
    assert again["text"] == s5_ptd.api.generate("the cat", 21, 1.0, folders["writer"], 3)["text"]


def test_the_embedded_writer_can_be_trained_when_it_is_first_asked(s5_ptd, folders, monkeypatch):
    def train_here():
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        return folders["writer"]

    monkeypatch.setattr(s5_ptd.writers, "writer_folder", train_here)
    s5_ptd.writers.load_writer.cache_clear()
    assert len(s5_ptd.api.generate("the cat", 4, 0.0)["tokens"]) == 4
    s5_ptd.writers.load_writer.cache_clear()


def test_pieces(s5_ptd):
    assert s5_ptd.writers.pieces(3) == [1, 1, 1]
    assert s5_ptd.writers.pieces(2048) == [256] * 8
    assert sum(s5_ptd.writers.pieces(45)) == 45 and set(s5_ptd.writers.pieces(45)) == {5, 6}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", 8, 0.0), "Write a prompt first"),
        (("a", 0, 0.0), "between 1 and 2048, got 0"),
        (("a", 4096, 0.0), "between 1 and 2048, got 4096"),
        (("a", 8, -0.1), "must not be negative"),
    ],
)
def test_what_cannot_be_continued_is_said(s5_ptd, folders, arguments, said):
    with pytest.raises(gr.Error, match=said):
        s5_ptd.api.generate(*arguments, folders["writer"])


@pytest.mark.parametrize(("name", "said"), [("llama", "it is a llama model"), ("nothing", "Cannot load")])
def test_other_writers_are_refused(s5_ptd, folders, name, said):
    with pytest.raises(gr.Error, match=said):
        s5_ptd.api.generate("a", 8, 0.0, folders[name])


def test_generation_tab(s5_ptd, folders):
    text, facts, memory, times = s5_ptd.generate_tab.show("the cat", 16, 0.0, folders["writer"])
    assert isinstance(text, str) and "of keys and values" in facts
    attention, state = memory.axes[0].lines
    assert len(set(state.get_ydata())) == 1 and attention.get_ydata()[-1] > attention.get_ydata()[0]
    assert len(times.axes[0].lines[0].get_xdata()) == 8


# ---------------------------------------------------------------- the page


def test_every_public_endpoint_is_described(s5_ptd):
    check_endpoints_are_described(s5_ptd.app.demo, ("classify", "transfer", "pseudospectrum", "generate"))


def test_embedded_names_cannot_be_hub_ids(s5_ptd):
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    with pytest.raises(HFValidationError):
        validate_repo_id(s5_ptd.names.EMBEDDED_TEXT)


@pytest.mark.slow
def test_the_embedded_classifiers_show_what_the_page_says(s5_ptd):
    """Equally good without noise; at its worst frequency S4D-LegS falls to chance, and the perturbed ones hold."""
    curves = s5_ptd.classifiers.load_curves()
    amplitudes = s5_ptd.classifiers.AMPLITUDES
    accuracy = {init: dict(zip(amplitudes, curves[init]["legs"], strict=True)) for init in curves}
    clean = [row[0.0] for row in accuracy.values()]
    assert min(clean) > 0.9 and max(clean) - min(clean) < 0.05
    assert accuracy["legs"][0.5] < 0.5 and accuracy["legs"][1.0] < 0.3
    for init in ("ptd", "lowrank"):
        assert accuracy[init][0.5] > 0.85 and accuracy[init][1.0] > 0.6
    # No robustness to everything: a low frequency disturbs all alike.
    low = [curves[init]["low"][-1] for init in curves]
    assert max(low) < 0.6


@pytest.mark.slow
def test_the_embedded_writer_has_learned_something(s5_ptd):
    found = s5_ptd.api.generate(s5_ptd.names.PROMPT, 200, 0.0)
    assert len(set(found["state_bytes"])) == 1
    model, tokenizer = s5_ptd.writers.load_writer(s5_ptd.names.EMBEDDED_TEXT)
    ids = tokenizer("    def __init__(self, name):\n        self.name = name\n", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert model(input_ids=ids, labels=ids).loss < 2.2
