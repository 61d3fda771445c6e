# SPDX-License-Identifier: Apache-2.0
"""Runs, the study's curves and visitors' matrices, called as functions: against the library run by hand."""

import json
import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from eigenhub.embedded.fact_answers import answer_questions, count_verdicts, verdicts
from eigenhub.embedded.facts import load_facts
from eigenhub.metrics import decoder_blocks, ees, eigenscore
from eigenhub.training.send import SensitivityTracker, WeightAverage, tracked_embeddings
from tests.house.sources import ROOT
from tests.spaces.conftest import modules_of
from tests.spaces.tiny_facts import WIDTH, fill_cache


RESULTS = ROOT / "benchmarks/results/send_facts.json"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eigenhub")
    fill_cache(folder)
    return folder


@pytest.fixture(autouse=True)
def small_world(home, monkeypatch):
    monkeypatch.setenv("EIGENHUB_HOME", str(home))


@pytest.fixture(scope="module")
def send():
    with modules_of("send") as modules:
        yield modules


def settings(send, **changes):
    return send.settings.TrainSettings(**{"epochs": 4, "window": 2, "refresh_every": 2, **changes})


def without_times(record):
    return {name: value for name, value in record.items() if name != "seconds"}


@pytest.fixture(scope="module")
def pairs(send, home):
    """All reports of a finished pair."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIGENHUB_HOME", str(home))
        return list(send.running.train_pair(settings(send)))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "off"}, "The arm must be one of send, random, dropout, ema, got 'off'"),
        ({"site": "attention"}, "The site must be one of hidden, mlp, update"),
        ({"rho": 0.9}, "The ρ must be from 0.05 to 0.6, got 0.9"),
        ({"window": 1}, "The C must be a whole number from 2 to 5, got 1"),
        ({"refresh_every": 0}, "The T must be a whole number from 1 to 6"),
        ({"epochs": 21}, "The number of epochs must be a whole number from 4 to 20"),
        ({"seed": 0.5}, "The seed must be a whole number"),
        ({"window": 3, "refresh_every": 4}, "dropped after epoch 4: train for more than 4 epochs, got 4"),
    ],
)
def test_settings_that_cannot_be(send, change, said):
    with pytest.raises(gr.Error, match=said):
        settings(send, **change)


def test_the_controls_are_in_the_order_of_the_settings(send):
    with gr.Blocks():
        inputs = send.curves_tab._controls()
    assert send.settings.TrainSettings(*(component.value for component in inputs)) == send.settings.TrainSettings()
    assert settings(send, mode="ema", window=5, refresh_every=6).epochs == 4, (
        "an arm without a mask needs no time for one"
    )


# ---------------------------------------------------------------- runs


def test_a_run_is_told_epoch_by_epoch(send, pairs):
    assert [pair["epoch"] for pair in pairs] == [0, 1, 2, 3, 4]
    assert [pair["finished"] for pair in pairs] == [False] * 4 + [True]
    for name in ("plain", "arm"):
        run = pairs[-1][name]
        assert len(run["wrong"]) == 5 and len(run["flips"]) == len(run["loss"]) == len(run["seconds"]) == 4
        for shares in zip(run["right"], run["wrong"], run["refused"], strict=True):
            assert sum(shares) == pytest.approx(1)
        assert run["size"] == WIDTH
    assert len(pairs[2]["arm"]["wrong"]) == 3, "an earlier report was changed by a later one"


def test_the_arm_is_plain_training_until_its_first_mask(pairs):
    plain, arm = pairs[-1]["plain"], pairs[-1]["arm"]
    assert arm["masked"] == [3, 4] and plain["masked"] == [] and plain["refreshes"] == []
    assert plain["wrong"][:3] == arm["wrong"][:3] and plain["loss"][:2] == arm["loss"][:2]
    assert plain["loss"][2] != arm["loss"][2]
    assert [entry["checkpoint"] for entry in arm["refreshes"]] == [2, 4]


def test_plain_training_and_its_choice_by_hand(send, pairs):
    model, tokenizer = send.teaching.base_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    tracked, tracker = send.teaching.encoded("track")["input_ids"], SensitivityTracker(window=2)
    for epoch in (1, 2):
        rows = send.teaching.encoded("train")
        order = torch.randperm(len(rows["labels"]), generator=torch.Generator().manual_seed(epoch))
        model.train()
        for part in order.split(64):
            model(input_ids=rows["input_ids"][part], labels=rows["labels"][part]).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        block = decoder_blocks(model)[-2]
        tracker.add(tracked_embeddings(model, block, list(tracked), lambda r: {"input_ids": torch.stack(r)}, 64))
    test = load_facts()["test"]
    counts = count_verdicts(verdicts(answer_questions(model.eval(), tokenizer, test["prompt"][:]), test["answer"][:]))
    assert pairs[-1]["plain"]["wrong"][2] == counts["hallucination"]
    assert pairs[-1]["arm"]["refreshes"][0]["dropped"] == tracker.select(math.floor(0.2 * WIDTH)).tolist()


def test_other_seeds_order_the_rows_otherwise(send):
    batches = [send.teaching.epoch_batches(seed, epoch) for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))]
    first = [torch.cat([batch["input_ids"] for batch in entry]) for entry in batches]
    assert first[0].equal(first[1]) and not first[0].equal(first[2]) and not first[0].equal(first[3])
    assert_close(first[0].sort(0).values, first[3].sort(0).values)
    more = send.teaching.epoch_batches(0, 1, replay=100)
    assert sum(len(batch["labels"]) for batch in more) == len(first[0]) + 100


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["dropout", "random"])
def test_runs_side_by_side_do_not_mix(send, mode):
    """Dropout draws from torch's global generator, which scores of other visitors seed."""
    chosen = settings(send, mode=mode, site="mlp", epochs=4)

    def two_epochs(seed):
        torch.manual_seed(seed)
        run = send.running.Run(chosen, mode)
        for _ in range(2):
            run.next_epoch()
        return without_times(run.record)

    alone = two_epochs(1)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(two_epochs, (2, 3))) == [alone, alone]


def test_averaged_weights_are_asked(send, monkeypatch):
    updates = []
    monkeypatch.setattr(WeightAverage, "update", lambda self, old=WeightAverage.update: (updates.append(1), old(self)))
    run = send.running.Run(settings(send, mode="ema"), "ema")
    weights = next(run.model.parameters()).clone()
    run.next_epoch()
    assert len(updates) == run.steps > 0
    latest = next(run.model.parameters())
    assert not latest.equal(weights), "the average was left in the model"
    with run.runtime.average.applied():
        answers = answer_questions(run.model, run.tokenizer, run.test["prompt"][:])
    counts = count_verdicts(verdicts(answers, run.test["answer"][:]))
    assert run.record["wrong"][-1] == counts["hallucination"]


@pytest.mark.slow
def test_a_mask_in_evaluation(send):
    off, on = (send.running.Run(settings(send, mask_in_eval=flag, rho=0.6), "send") for flag in (False, True))
    for run in (off, on):
        for _ in range(3):
            run.next_epoch()
    assert off.record["loss"] == on.record["loss"] and off.record["wrong"][:2] == on.record["wrong"][:2]
    assert off.record["wrong"][2:] != on.record["wrong"][2:]


def test_few_indices_are_refused_by_the_library(send):
    with pytest.raises(gr.Error, match="This run cannot be made: `rho` must drop an index or more"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(send.settings, "RHOS", (0.0, 0.6))
            send.running.Run(settings(send, rho=0.01), "send")


# ---------------------------------------------------------------- words and figures


def pair_of(mode="send", wrong=((0.5, 0.4, 0.3), (0.5, 0.4, 0.2)), masked=(2,)):
    runs = [
        {
            "mode": m, "label": label, "wrong": list(shares), "right": [1 - s for s in shares], "refused": [0.0] * 3,
            "flips": [0.1, 0.1], "loss": [1.0, 0.5], "seconds": [2.0, 2.0], "masked": list(own), "size": 8,
            "refreshes": [{"checkpoint": e - 1, "dropped": [1, 3]} for e in own], "settings": {"mode": mode, "epochs": 2},
        }
        for m, label, shares, own in (("off", "plain training", wrong[0], ()), (mode, "SenD", wrong[1], masked))
    ]  # fmt: skip
    return {"plain": runs[0], "arm": runs[1], "epoch": 2, "epochs": 2, "finished": True}


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (pair_of(), "**SenD is better** than plain training here: 20.0% wrong against 30.0% (in the last epoch). This is one seed"),
        (pair_of(wrong=((0.5, 0.4, 0.2), (0.5, 0.4, 0.3))), "**Plain training is better** here: SenD has 30.0% wrong against 20.0%"),
        (pair_of(wrong=((0.5, 0.4, 0.2), (0.5, 0.4, 0.203))), "No difference to speak of: SenD has 20.3% wrong"),
        (pair_of(masked=()), "so far the two runs are the same"),
        (pair_of("ema", masked=()), "30.0% wrong against 35.0% (mean of the last 2 epochs)"),
    ],
)  # fmt: skip
def test_who_is_better(send, pair, said):
    assert said in send.run_reports.training_words(pair)


def test_a_stopped_run_says_so(send, pairs):
    assert send.run_reports.training_words(pairs[3], goes_on=False).startswith("Stopped after epoch 3 of 4. ")
    assert send.run_reports.training_words(pairs[3]).startswith("Epoch 3 of 4, ")
    assert "begin from the same model" in send.run_reports.training_words(pairs[0])


def texts_of(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


def test_figures_have_no_formulas_and_shade_what_was_masked(send, pairs):
    pair = pairs[-1]
    drawn = [
        send.run_figures.shares_figure(pair),
        send.run_figures.flips_figure(pair),
        send.run_figures.dropped_figure(pair["arm"]),
    ]
    for figure in drawn:
        figure.canvas.draw()
        assert not any("$" in text for text in texts_of(figure))
    spans = [patch.get_x() for patch in drawn[0].axes[0].patches]
    assert spans == [2, 3]
    grid = drawn[2].axes[0].images[0].get_array()
    assert grid.shape == (1, WIDTH) and set(np.flatnonzero(grid[0])) == set(pair["arm"]["refreshes"][0]["dropped"])
    assert send.run_figures.dropped_figure(pair["plain"]) is None


def test_figures_of_scores_in_threads(send):
    record = {"spectrum": [2.0, 1e-4, 0.0], "alpha": 1e-3}
    rows = [
        {"eigenscore": -6.0 + n, "length_normalized_entropy": 0.1, "right": n < 2, "above_threshold": n > 2}
        for n in range(4)
    ]
    known = {"rows": rows, "threshold": -3.5, "auroc": {"eigenscore": 1.0, "length_normalized_entropy": 0.5}}

    def draw(_):
        figures = [
            send.figures.spectrum_figure(record),
            send.figures.histogram_figure(known),
            send.figures.roc_figure(known),
        ]
        for figure in figures:
            figure.canvas.draw()
        return [text for figure in figures for text in texts_of(figure)]

    with ThreadPoolExecutor(4) as pool:
        for texts in pool.map(draw, range(4)):
            assert not any("$" in text for text in texts)
    assert send.figures.roc_figure({**known, "auroc": {}}) is None
    same = [{"eigenscore": -6.9, "right": None}] * 8
    send.figures.histogram_figure({"rows": same, "threshold": -6.9}).canvas.draw()


# ---------------------------------------------------------------- study


def test_the_study_is_read_where_it_is(send, tmp_path):
    assert send.study.read_study([tmp_path / "none.json"]) is None
    (tmp_path / "bad.json").write_text("{")
    assert send.study.read_study([tmp_path / "bad.json"]) is None
    plain, sensitive = [[0.5, 0.3], [0.7, 0.1]], [[0.6, 0.4]]
    rows = [{"arm": "plain", "curves": plain}, {"arm": "SenD, hidden", "curves": sensitive}]
    others = [{"what": "no curves"}, {"arm": "odd", "curves": "x"}, {"arm": "worse", "curves": [[None, 1]]}, 3]
    (tmp_path / "good.json").write_text(json.dumps({"rows": rows + others}))
    study = send.study.read_study([tmp_path / "none.json", tmp_path / "good.json"])
    assert send.study.curves(study) == {"plain": plain, "SenD, hidden": sensitive}
    middle, width = send.study.band(plain)
    assert middle == pytest.approx([0.6, 0.2]) and width == pytest.approx([math.sqrt(0.02)] * 2)
    send.run_figures.study_figure(study).canvas.draw()
    for empty in (None, {}, {"rows": {}}, {"rows": [{"arm": "plain", "curves": []}]}):
        assert send.run_figures.study_figure(empty) is None


@pytest.mark.skipif(not RESULTS.is_file(), reason="the study was not run")
def test_the_study_of_this_repository_is_drawn(send):
    study = send.study.read_study([RESULTS])
    assert set(send.run_figures.STUDY_ARMS) <= send.study.curves(study).keys()
    send.run_figures.study_figure(study).canvas.draw()


# ---------------------------------------------------------------- matrices


def test_scores_of_a_matrix(send):
    matrix = np.random.default_rng(0).normal(size=(5, 9))
    found = send.matrices.scores_of(matrix)
    x = torch.from_numpy(matrix)
    for name, entry in found["conventions"].items():
        assert entry["eigenscore"] == pytest.approx(float(eigenscore(x, name)))
    covariance = np.linalg.eigvalsh(np.cov(matrix))
    assert np.allclose(sorted(found["conventions"]["inside"]["spectrum"]), covariance)
    assert found["ees"] == pytest.approx(float(ees(x, 20, exact_trace=True)))
    send.figures.spectra_figure(found).canvas.draw()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = send.matrices.scores_of(np.ones((3, 4)))
    assert same["conventions"]["sample"]["eigenscore"] == pytest.approx(math.log(1e-3))
    send.figures.spectra_figure(same).canvas.draw()


def test_matrices_pasted_and_uploaded(send, tmp_path):
    rows = [[1.0, 2.5, -3.0], [4.0, 5.0, 6e-3]]
    np.save(tmp_path / "a.npy", np.array(rows, dtype=np.float32))
    (tmp_path / "b.csv").write_text("1, 2.5, -3\n4, 5, 6e-3\n")
    read = send.matrices.read_matrix
    assert np.allclose(read(None, str(tmp_path / "a.npy")), rows)
    for found in (
        read(None, str(tmp_path / "b.csv")),
        read("1 2.5 -3\n\n4\t5 .006", None),
        read("1;2.5;-3\n4;5;.006", None),
    ):
        assert found.dtype == np.float64 and found.tolist() == rows
    assert send.api.embeddings(rows)["shape"] == [2, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "paste a matrix or upload one"),
        ("1 2\n3", "rows of equally many numbers"),
        ("a b\nc d", "rows of equally many numbers"),
        ("1 2", r"got shape \(1, 2\)"),
        ("1\n2", r"got shape \(2, 1\)"),
        ("1 2\nnan 3", "row 1 has numbers that are not finite"),
        ("1 2\n" * 513, r"got shape \(513, 2\)"),
    ],
)
def test_matrices_that_cannot_be_scored(send, text, said):
    with pytest.raises(ValueError, match=said):
        send.matrices.read_matrix(text, None)


def test_files_that_hold_no_matrix(send, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "complex.npy", np.zeros((2, 2), dtype=complex))
    whole = (tmp_path / "cube.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-8])
    (tmp_path / "a.txt").write_text("1 2\n3 4")
    for name, said in {
        "objects.npy": "Array can't be memory-mapped|Object arrays cannot",
        "cube.npy": r"got shape \(2, 2, 2\)",
        "complex.npy": "real numbers were expected, got complex128",
        "short.npy": ".",
        "a.txt": "a.txt must be a .npy or .csv file",
    }.items():
        with pytest.raises(ValueError, match=said):
            send.matrices.read_matrix("1 2\n3 4", str(tmp_path / name))
    with pytest.raises(gr.Error, match="This matrix cannot be scored: rows of equally many numbers were expected"):
        send.api.embeddings([[1.0, 2.0], [3.0]])
