# SPDX-License-Identifier: Apache-2.0
"""Captured energy against dense references, and what a visitor may look at."""

import gradio as gr
import pytest
import torch
from torch.testing import assert_close

from eigenhub.embedded.byte_llama import byte_blocks
from eigenhub.embedded.python_sources import load_python_sources
from eigenhub.linalg import dct_matrix, top_columns
from eigenhub.optim.basis import basis_matrix
from eigenhub.training.packing import first_blocks
from tests.support.models import tiny_bert, tiny_gpt2, tiny_llama, tiny_tokenizer, tiny_vit


MATRIX = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models = {"llama": tiny_llama(), "gpt2": tiny_gpt2(), "bert": tiny_bert(), "vit": tiny_vit()}
    for name, model in models.items():
        model.save_pretrained(folder / name)
        if name != "vit":
            tiny_tokenizer().save_pretrained(folder / name)
    return {name: str(folder / name) for name in models}


def random_matrix(rows, columns):
    """Columns of very different size, so that the ways to choose them differ."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, columns, generator=generator) * torch.rand(columns, generator=generator).exp2() ** 3


# ---------------------------------------------------------------- the curves


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (16, 16)])
@pytest.mark.parametrize("side", ["auto", "right", "left"])
def test_every_rank_of_every_basis_equals_the_dense_projection(dct, shape, side, norm):
    matrix = random_matrix(*shape)
    found = dct.captured.captured_energy(matrix, side, norm)
    rows = matrix.mT if side == "left" or (side == "auto" and shape[0] < shape[1]) else matrix
    rows, n = rows.double(), rows.shape[1]
    assert found.width == n and set(found.curves) == {"svd", "dct2", "dct3", "random", "identity"}
    dense = {
        "dct2": dct_matrix(n).mT,
        "dct3": dct_matrix(n),
        "identity": torch.eye(n, dtype=torch.float64),
        "random": basis_matrix("random", n, torch.float64),
    }
    for rank in (1, n // 4, n - 1, n):
        singular = torch.linalg.svdvals(rows).square()
        expected = {"svd": singular[:rank].sum() / singular.sum()}
        for kind, basis in dense.items():
            spectrum = rows @ basis
            kept = basis[:, top_columns(spectrum.abs().pow(norm).sum(0), rank)]
            left_out = rows - rows @ kept @ kept.mT
            expected[kind] = 1 - left_out.square().sum() / rows.square().sum()
        for kind, value in expected.items():
            assert found.curves[kind][rank - 1].item() == pytest.approx(value.item(), abs=1e-5), (kind, rank)


def test_the_svd_is_above_all_and_squares_are_the_best_choice(dct):
    matrix = random_matrix(60, 32)
    by_sum, by_square = (dct.captured.captured_energy(matrix, norm=norm) for norm in (1, 2))
    for kind in ("dct2", "dct3", "random", "identity"):
        assert (by_square.curves[kind] >= by_sum.curves[kind] - 1e-6).all()
        assert (by_square.curves["svd"] >= by_square.curves[kind] - 1e-6).all()


def test_random_bases_are_orthogonal_different_and_spread(dct):
    first, second = (dct.captured.random_basis(12, seed) for seed in (0, 1))
    for basis in (first, second):
        assert_close(basis @ basis.mT, torch.eye(12), atol=1e-6, rtol=0)
    assert (first - second).abs().max() > 0.1
    chance = dct.captured.captured_energy(random_matrix(30, 12)).chance
    assert chance.shape == (1 + dct.captured.NUM_RANDOM, 12)
    assert (chance[:, 3].amax() - chance[:, 3].amin()) > 1e-3
    assert_close(chance[:, -1], torch.ones(len(chance), dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (torch.zeros(4, 4), "zero or not finite"),
        (torch.full((4, 4), float("nan")), "zero or not finite"),
        (torch.zeros(2, 9000), None),
        (torch.zeros(9000, 2), "zero or not finite"),
    ],
)
def test_matrices_that_cannot_be_shown(dct, matrix, said):
    side = "right" if said is None else "auto"
    with pytest.raises(ValueError, match=said or "9000 directions are too many here, the limit is 8192"):
        dct.captured.captured_energy(matrix, side)


@pytest.mark.parametrize(
    ("cosines", "said"),
    [(0.5, "no more than chance: 3 random bases hold 0.400 to 0.600"), (0.7, "more than 3 random bases (0.400 to 0.600)"),
     (0.3, "less than 3 random bases (0.400 to 0.600)")],
)  # fmt: skip
def test_the_verdict_compares_with_chance(dct, cosines, said):
    curves = {"dct2": torch.tensor([cosines, 1.0]), "svd": torch.tensor([0.9, 1.0])}
    chance = torch.tensor([[0.4, 1.0], [0.5, 1.0], [0.6, 1.0]])
    sentence = dct.captured.verdict(dct.captured.Captured(curves, chance), 1)
    assert said in sentence and f"With r = 1 of 2 the cosines of DCT-II hold **{cosines:.3f}**" in sentence
    assert sentence.endswith("holds 0.900.")


def test_cosines_are_found_where_they_are(dct):
    """The energy of a matrix made of three cosines lies in three directions of DCT-II and in no three others."""
    matrix = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) @ dct_matrix(32)[[1, 4, 9]].float()
    captured = dct.captured.captured_energy(matrix)
    assert captured.curves["dct2"][2] > 0.9999 and captured.curves["random"][2] < 0.5
    assert "more than 9 random bases" in dct.captured.verdict(captured, 3)
    rows = {row[0]: row[1:] for row in dct.captured.table(captured)}
    assert rows["DCT-II"][1:] == ["1.000", "1.000", "1.000", "3"] and rows["SVD"][-1] == "3"


# ---------------------------------------------------------------- weights, gradients, momentum


def test_gradient_and_momentum_equal_backward(dct, folders):
    """Twenty batches of eight rows; the older a gradient, the less it counts."""
    model, loaded = tiny_llama().eval(), dct.language_models.load_model(folders["llama"])
    weight = model.get_parameter(MATRIX)
    blocks = first_blocks(load_python_sources()["train"]["text"], tiny_tokenizer(), 64, 160)
    grads = []
    for rows in torch.tensor(blocks).split(8):
        model.zero_grad()
        model(input_ids=rows, labels=rows).loss.backward()
        grads.append(weight.grad.clone())
    assert_close(dct.moments.moment_of(folders["llama"], MATRIX, "weight"), weight.detach())
    assert_close(dct.moments.moment_of(folders["llama"], MATRIX, "gradient"), grads[0])
    expected = sum(0.95**age * grad for age, grad in enumerate(reversed(grads)))
    assert_close(dct.moments.moment_of(folders["llama"], MATRIX, "momentum"), expected)
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_the_embedded_model_learns_from_its_own_text(dct):
    model = dct.language_models.load_model("embedded:untrained").model
    weight = model.get_parameter(MATRIX)
    rows = byte_blocks()[:8]
    weight.requires_grad_(True)
    (expected,) = torch.autograd.grad(model(input_ids=rows, labels=rows).loss, weight)
    weight.requires_grad_(False)
    assert_close(dct.moments.moment_of("embedded:untrained", MATRIX, "gradient"), expected)


# ---------------------------------------------------------------- models


def test_matrices_are_those_of_the_optimizers(dct, folders):
    llama = dct.language_models.load_model(f" {folders['llama']} ")
    assert len(llama.matrices) == 14 and "lm_head.weight" not in llama.matrices and llama.predicts_text
    gpt2 = dct.language_models.load_model(folders["gpt2"])
    assert len(gpt2.matrices) == 8 and all("wte" not in name and "wpe" not in name for name in gpt2.matrices)
    bert = dct.language_models.load_model(folders["bert"])
    assert bert.matrices and not bert.predicts_text
    vit = dct.language_models.load_model(folders["vit"])
    assert vit.matrices and vit.tokenizer is None


def test_half_precision_is_raised(dct, tmp_path):
    tiny_llama().half().save_pretrained(tmp_path / "half")
    tiny_tokenizer().save_pretrained(tmp_path / "half")
    loaded = dct.language_models.load_model(str(tmp_path / "half"))
    assert loaded.model.dtype == torch.float32
    assert torch.isfinite(dct.moments.moment_of(loaded.name, MATRIX, "gradient")).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", "", "weight", "auto", 1), "Name a model"),
        (("nothing/here", "", "weight", "auto", 1), "Cannot load 'nothing/here'"),
        (("embedded:untrained", "lm_head.weight", "weight", "auto", 1), "has no matrix 'lm_head.weight'"),
        (("embedded:untrained", "", "curl", "auto", 1), "Choose one of weight, gradient, momentum, not 'curl'"),
        (("embedded:untrained", "", "weight", "above", 1), "not 'above' and 1"),
        (("embedded:untrained", "", "weight", "auto", 3), "not 'auto' and 3"),
    ],
)
def test_what_cannot_be_measured(dct, monkeypatch, arguments, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(gr.Error, match=said):
        dct.api.energy(*arguments)


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_only_language_models_have_gradients_here(dct, folders, name):
    assert dct.api.energy(folders[name])["width"] > 0
    with pytest.raises(gr.Error, match="is no language model with a tokenizer, so it has no momentum here"):
        dct.api.energy(folders[name], "", "momentum")


def test_models_too_large_are_refused_before_they_are_loaded(dct, folders, monkeypatch):
    monkeypatch.setattr(dct.language_models, "MAX_PARAMETERS", 1000)
    dct.language_models._load.cache_clear()
    monkeypatch.setattr(dct.language_models, "LoadedModel", None)
    with pytest.raises(gr.Error, match=r"it has [\d,]+ parameters, this page takes up to 1,000"):
        dct.language_models.load_model(folders["llama"])


# ---------------------------------------------------------------- endpoint and page


def test_the_endpoint_gives_what_was_measured(dct, folders):
    answer = dct.api.energy(folders["llama"], MATRIX, "gradient", "left", 2.0)
    captured = dct.measuring.measure(folders["llama"], MATRIX, "gradient", "left", 2).captured
    assert answer["matrix"] == MATRIX and answer["shape"] == [24, 16] and answer["width"] == 24
    assert answer["curves"] == {kind: curve.tolist() for kind, curve in captured.curves.items()}
    low, high = answer["chance"]["lowest"], answer["chance"]["highest"]
    assert len(low) == 24 and all(a <= b for a, b in zip(low, high, strict=True))


def test_the_page_moves_on_to_a_matrix_of_the_new_model(dct, folders):
    tab = dct.energy_tab
    matrix, tiles, sentence, figure, table = tab.show(folders["gpt2"], MATRIX, "weight", "auto", 1, 50)
    names = list(dct.language_models.load_model(folders["gpt2"]).matrices)
    assert matrix.value == names[0] and [name for name, _ in matrix.choices] == names
    captured = dct.measuring.measure(folders["gpt2"], names[0], "weight", "auto", 1).captured
    assert f"{captured.curves['dct2'][7].item():.1%}" in tiles and "in r = 8 of 16" in tiles
    assert sentence == dct.captured.verdict(captured, 8) and "for 90 %" in table
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["SVD"].get_ydata()) == captured.curves["svd"].tolist()
    kept = tab.show(folders["gpt2"], names[3], "weight", "auto", 1, 50)[0]
    assert kept.value == names[3]
