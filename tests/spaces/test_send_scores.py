# SPDX-License-Identifier: Apache-2.0
"""Scores, thresholds and their verdicts, called as functions: against the library run by hand and brute force."""

import csv
import json
import math

import gradio as gr
import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForMaskedLM, T5Config

from eigenhub.embedded.facts import load_facts
from eigenhub.metrics import HallucinationScorer, auroc
from tests.spaces.checks import check_endpoints_are_described
from tests.spaces.conftest import modules_of
from tests.spaces.tiny_facts import fill_cache
from tests.support.models import tiny_llama, tiny_tokenizer


PROMPTS = [f"the {word} sat on" for word in "cat dog sun mat park hen bun ten".split()]


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


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writer")
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def settings(send, **changes):
    return send.settings.ScoreSettings(**{"model": "embedded:base", "num_samples": 4, **changes})


def own(send, writer, **changes):
    return settings(send, **{"model": writer, "temperature": 1.0, "top_k": 0, "max_new_tokens": 4, **changes})


def calibrated(send, chosen, given, *rest):
    *_, (_, found) = send.calibration.calibrate(chosen, given, *rest)
    return found


@pytest.fixture(scope="module")
def world_calibration(send, home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIGENHUB_HOME", str(home))
        chosen = settings(send)
        return calibrated(send, chosen, send.calibration.prompts_of(chosen, 80, ["known", "told"], None, None))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": " "}, "Name a model"),
        ({"num_samples": 1}, "The K must be a whole number from 2 to 30, got 1"),
        ({"num_samples": 2.5}, "The K must be a whole number"),
        ({"num_samples": True}, "The K must be a whole number"),
        ({"temperature": 0}, "The temperature must be from 0.05 to 2, got 0"),
        ({"temperature": math.nan}, "The temperature must be"),
        ({"temperature": None}, "The temperature must be .* got None"),
        ({"top_p": 0}, "The top-p must be above 0 and at most 1"),
        ({"top_k": 1}, "The top-k must not be 1: all answers would be the same"),
        ({"max_new_tokens": 129}, "The longest answer must be a whole number from 1 to 128"),
        ({"layer": "first"}, "The layer must be one of middle, penultimate or a whole number, got 'first'"),
        ({"layer": None}, "The layer must be"),
        ({"token": "first"}, "The token must be one of last, mean, mean_last"),
        ({"convention": "cov"}, "The convention must be one of inside, inside_paper, send, sample, got 'cov'"),
        ({"seed": -1}, "The seed must be a whole number"),
    ],
)
def test_settings_that_cannot_be(send, change, said):
    with pytest.raises(gr.Error, match=said):
        settings(send, **change)


def test_settings_are_normalised(send):
    chosen = settings(send, num_samples=4.0, layer=" -2 ", top_k=5.0, model=" embedded:base ")
    assert (chosen.num_samples, chosen.layer, chosen.top_k, chosen.model) == (4, -2, 5, "embedded:base")
    assert type(chosen.num_samples) is int and send.settings.ScoreSettings.from_dict(chosen.to_dict()) == chosen


def test_the_controls_are_in_the_order_of_the_settings(send):
    with gr.Blocks():
        inputs = send.controls.build().inputs
    assert send.controls.settings_of([component.value for component in inputs]) == send.settings.ScoreSettings()


def test_endpoints_are_described(send):
    check_endpoints_are_described(send.app.demo, ("score", "calibrate", "train", "embeddings"))


# ---------------------------------------------------------------- world


def test_kinds_of_questions(send):
    world, facts = send.world.questions(), load_facts()
    assert len(world) == 24 * 24 * 4 * 6
    kinds = {kind: [q for q in world.values() if q.kind == kind] for kind in send.names.KINDS}
    assert len(kinds["known"]) + len(kinds["unknown"]) == len(facts["base"])
    assert len(kinds["paraphrase"]) == len(facts["test"]) + len(facts["track"])
    told = {row["prompt"] for row in facts["train"] if row["kind"] == "new"}
    assert {q.prompt for q in kinds["told"]} == told
    people = {row["person"] for split in facts.values() for row in split}
    assert all(q.answer == "unknown" for q in kinds["stranger"] + kinds["unknown"])
    assert not any(person in q.prompt for q in kinds["stranger"][::50] for person in people)


def test_calibration_and_examples_are_apart(send):
    kinds = list(send.names.KINDS)
    chosen = send.world.calibration_questions(kinds, 401)
    counts = [sum(q.kind == kind for q in chosen) for kind in kinds]
    assert sum(counts) == 401 and max(counts) - min(counts) <= 1
    every = {q.prompt for q in send.world.shuffled()[::2]}
    assert {q.prompt for q in chosen} <= every
    assert not any(send.world.example(kind) in every for kind in kinds)
    with pytest.raises(gr.Error, match="kinds of questions must be one or more of"):
        send.world.calibration_questions(["nobody"], 40)
    with pytest.raises(gr.Error, match="kinds of questions"):
        send.world.calibration_questions([], 40)


def test_questions_are_normalised(send):
    assert send.world.normalised("  Ada Brook  lives in:") == "Ada Brook lives in :"
    assert send.world.normalised("home of Ada Brook") == "home of Ada Brook :"
    with pytest.raises(gr.Error, match="not Who, wrote, Faust"):
        send.world.normalised("Who wrote Faust :")
    for empty in ("", " : ", None):
        with pytest.raises(gr.Error, match="Write a prompt first"):
            send.scoring.require_prompt(settings(send), empty)


# ---------------------------------------------------------------- scores


def test_a_score_is_that_of_the_library(send):
    chosen = settings(send, num_samples=6, temperature=1.0, seed=3, convention="sample", layer="penultimate")
    prompt = send.world.example("known")
    (record,) = send.scoring.score_prompts(chosen, [prompt])
    folder = send.language_models.EMBEDDED["embedded:base"]()
    scorer = HallucinationScorer(
        AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), layer="penultimate",
        convention="sample", num_samples=6, temperature=1.0, max_new_tokens=16, seed=3,
    )  # fmt: skip
    (score,) = scorer.generate_and_score([prompt])
    assert record["eigenscore"] == pytest.approx(score.eigenscore)
    assert_close(record["spectrum"], score.spectrum)
    assert record["greedy"] == score.greedy and record["mean_token_entropy"] == pytest.approx(score.mean_token_entropy)
    assert {answer["text"]: answer["count"] for answer in record["answers"]} == {
        text: score.samples.count(text) for text in score.samples
    }
    for answer in record["answers"]:
        known = [p for p, text in zip(score.sequence_log_probs, score.samples, strict=True) if text == answer["text"]]
        assert answer["log_prob"] == pytest.approx(max(known))
    counts = [answer["count"] for answer in record["answers"]]
    assert counts == sorted(counts, reverse=True) and sum(counts) == 6


def test_the_truth_of_the_world(send):
    prompt = send.world.example("known")
    question = send.world.questions()[prompt]
    (record,) = send.scoring.score_prompts(settings(send), [prompt])
    assert record["truth"] == question.answer and record["kind"] == "someone it knows"
    expected = (
        "right" if record["greedy"] == question.answer else "refused" if record["greedy"] == "unknown" else "wrong"
    )
    assert record["verdict"] == expected
    (record,) = send.scoring.score_prompts(settings(send), ["Ada Ada Ada :"])
    assert record["truth"] is None and record["verdict"] is None
    assert "The question is about" not in send.reports.answer_words(record)


def test_scores_leave_the_global_generator_alone(send):
    before = torch.get_rng_state()
    send.scoring.score_prompts(settings(send), [send.world.example("known")])
    assert torch.get_rng_state().equal(before)


def test_a_model_of_a_visitor(send, writer):
    (record,) = send.scoring.score_prompts(own(send, writer), ["the cat sat on"])
    assert record["truth"] is None and len(record["spectrum"]) == 4 and "verdict" not in record["answers"][0]
    with pytest.raises(gr.Error, match=r"These prompts cannot be scored: a prompt has 7\d tokens; with 4 new ones"):
        send.scoring.score_prompts(own(send, writer), ["the cat sat " * 24])
    with pytest.raises(gr.Error, match="`layer` must be one of"):
        send.scoring.score_prompts(own(send, writer, layer=7), ["the cat"])
    with pytest.raises(gr.Error, match="up to 4,000 letters, this one has 4,500"):
        send.scoring.require_prompt(own(send, writer), "the cat s" * 500)


def test_models_that_cannot_be_asked(send, writer, tmp_path, monkeypatch):
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 64,
    }
    BertForMaskedLM(BertConfig(**shape)).save_pretrained(tmp_path / "masked")
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path / "seq2seq")
    (tmp_path / "empty").mkdir()
    tiny_llama().save_pretrained(tmp_path / "mute")  # no tokenizer
    for name, said in {
        str(tmp_path / "masked"): "it is a BertForMaskedLM, not a causal language model",
        str(tmp_path / "seq2seq"): "it is a t5 model, not a causal language model",
        str(tmp_path / "empty"): "Cannot load",
        str(tmp_path / "mute"): "Cannot load",
        "nobody/nothing": "Cannot load 'nobody/nothing'",
        "embedded:nothing": "the embedded models are embedded:told, embedded:base",
    }.items():
        with pytest.raises(gr.Error, match=said):
            send.language_models.load_model(name)
    monkeypatch.setattr(send.language_models, "MAX_PARAMETERS", 1000)
    send.language_models._load.cache_clear()
    with pytest.raises(gr.Error, match=r"it has [\d,]+ parameters, this page takes up to 1,000"):
        send.language_models.load_model(writer)


# ---------------------------------------------------------------- thresholds


def test_youdens_threshold_is_the_best_of_all(send):
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        scores = torch.randint(0, 8, (30,), generator=draw).double().tolist()  # with ties
        wrong = (torch.rand(30, generator=draw) < 0.4).tolist()
        threshold, j = send.thresholds.youden_threshold(scores, wrong)

        def gain(at, scores=scores, wrong=wrong):
            caught = sum(s > at and w for s, w in zip(scores, wrong, strict=True)) / sum(wrong)
            return caught - sum(s > at and not w for s, w in zip(scores, wrong, strict=True)) / (30 - sum(wrong))

        assert gain(threshold) == pytest.approx(j)
        assert j == pytest.approx(max(gain(at / 2 - 1) for at in range(20)))


def test_the_area_under_the_curve_is_the_auroc(send):
    scores, wrong = [0.1, 0.4, 0.35, 0.8, 0.4], [False, False, True, True, True]
    points = send.thresholds.roc_points(scores, wrong)
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(points, points[1:], strict=False))
    assert area == pytest.approx(auroc(scores, wrong)) and points[0] == (0, 0) and points[-1] == (1, 1)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 3.0), (0.8, 4.0), (0.81, 5.0), (1.0, 5.0), (0.2, 1.0)])
def test_quantiles(send, share, expected):
    assert send.thresholds.quantile_threshold([5.0, 1.0, 4.0, 2.0, 3.0], share) == expected


def test_what_a_threshold_is_set_by(send):
    choose = send.thresholds.choose_threshold
    assert choose("youden", [1.0, 2.0, 3.0], [False, False, True], 0.5) == ("youden", 2.5, 1.0)
    assert choose("youden", [1.0, 2.0, 3.0], None, 0.5) == ("quantile", 2.0, None)
    assert choose("youden", [1.0, 2.0, 3.0], [True] * 3, 0.5) == ("quantile", 2.0, None)
    assert choose("quantile", [1.0, 2.0, 3.0], [False, False, True], 0.5) == ("quantile", 2.0, None)
    assert choose("youden", [3.0, 2.0, 1.0], [False, False, True], 0.5) == ("quantile", 2.0, None), "of no help"


def test_a_calibration_on_the_world(send, world_calibration):
    found = world_calibration
    assert found["by"] == "youden" and found["num_prompts"] == 80 and 0 < found["num_wrong"] < 80
    scores, wrong = [row["eigenscore"] for row in found["rows"]], [not row["right"] for row in found["rows"]]
    assert found["auroc"]["eigenscore"] == auroc(scores, wrong) and set(found["auroc"]) == set(send.names.DETECTORS)
    assert [row["above_threshold"] for row in found["rows"]] == [score > found["threshold"] for score in scores]
    for row in found["rows"]:
        assert row["right"] == (row["answer"] == row["reference"])


def test_prompts_of_a_batch_have_draws_of_their_own(send):
    chosen = settings(send, temperature=2.0, top_k=0, top_p=1.0)
    prompt = send.world.example("stranger")
    (first,), (later,) = (send.scoring.score_prompts(chosen, [prompt], first) for first in (0, 64))
    assert first["answers"] != later["answers"] and first["greedy"] == later["greedy"]


def test_a_calibration_on_prompts_of_a_visitor(send, writer):
    chosen = own(send, writer)
    (record,) = send.scoring.score_prompts(chosen, [PROMPTS[0]])
    right = " ".join(record["greedy"].split()) or "nothing"
    given = send.prompt_files.PromptList(PROMPTS, [[right]] + [["zebra"]] * 7)
    found = calibrated(send, chosen, given, "youden", 0.5, "contains")
    assert found["by"] == "youden" and found["rows"][0]["right"] is True and found["num_wrong"] >= 1
    found = calibrated(send, chosen, send.prompt_files.PromptList(PROMPTS, []), "youden", 0.5)
    assert found["by"] == "quantile" and found["num_wrong"] is None and found["auroc"] == {}
    assert "none were given" in send.reports.calibration_words(found)
    assert sum(row["above_threshold"] for row in found["rows"]) == 4
    with pytest.raises(gr.Error, match="'zebra' of prompt 2 holds no number"):
        calibrated(
            send, chosen, send.prompt_files.PromptList(PROMPTS, [["12"]] + [["zebra"]] * 7), "youden", 0.5, "number"
        )


def test_a_calibration_that_is_stopped_has_no_result(send):
    chosen = settings(send)
    given = send.calibration.prompts_of(chosen, 80, ["known"], None, None)
    answers = list(send.calibration.calibrate(chosen, given, goes_on=iter([True, False]).__next__))
    assert answers == [(0, None), (64, None)]


# ---------------------------------------------------------------- verdicts


def test_ranks_among_the_calibration(send, world_calibration):
    rows = [{"eigenscore": score} for score in (-3.0, -2.0, -2.0, -1.0)]
    known = {**world_calibration, "rows": rows, "threshold": -1.5}
    record = {"settings": known["settings"], "revision": "", "eigenscore": -2.0}
    judged = send.verdicts.judged(record, known)
    assert (judged["more_certain"], judged["as_certain"], judged["less_certain"]) == (0.25, 0.5, 0.25)
    assert judged["fits"] and not judged["above"]
    assert (
        send.reports.rank_words(judged) == "More certain than 25% of the calibration prompts, and as certain as 50%."
    )
    judged = send.verdicts.judged({**record, "eigenscore": -0.5}, known)
    assert judged["above"] and send.reports.rank_words(judged) == "Less certain than 100% of the calibration prompts."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "embedded:told"}, "model = embedded:told, not embedded:base"),
        ({"num_samples": 5}, "K = 5, not 4"),
        ({"temperature": 0.7}, "temperature = 0.7, not 0.5"),
        ({"top_p": 0.9}, "top-p = 0.9, not 0.99"),
        ({"top_k": 3}, "top-k = 3, not 10"),
        ({"max_new_tokens": 8}, "longest answer = 8, not 16"),
        ({"layer": 1}, "layer = 1, not middle"),
        ({"token": "mean"}, "token = mean, not last"),
        ({"convention": "sample"}, "convention = sample, not inside"),
    ],
)
def test_a_threshold_of_other_settings_gives_no_verdict(send, world_calibration, change, said):
    chosen = settings(send, **change)
    record = {"settings": chosen.to_dict(), "revision": "", "eigenscore": -6.0, "greedy": "Cairo", "verdict": None}
    judged = send.verdicts.judged(record, world_calibration)
    assert judged == {"fits": False, "misfits": [said]}
    words = send.reports.verdict_words(record, judged)
    assert "**No verdict.**" in words and said in words and "Above" not in words
    status = send.calibration_part.fit(world_calibration, *chosen.to_dict().values())
    assert status.startswith(f"**It no longer fits:** {said}. Verdicts are withheld.")


def test_the_seed_does_not_matter_and_the_revision_does(send, world_calibration):
    record = {"settings": settings(send, seed=9).to_dict(), "revision": "", "eigenscore": -6.0}
    assert send.verdicts.judged(record, world_calibration)["fits"]
    found = send.verdicts.judged({**record, "revision": "abc"}, world_calibration)
    assert found == {"fits": False, "misfits": ["another revision of the model"]}
    assert send.verdicts.judged(record, None)["misfits"] == ["nothing was calibrated yet"]


@pytest.mark.parametrize(
    "given", [{"threshold": 1}, {"settings": {}, "threshold": 1}, {"settings": {"who": 1}}, 5, [1]]
)
def test_a_calibration_of_other_making_is_refused(send, given):
    with pytest.raises(gr.Error, match="calibration must be what /calibrate gave|These are no settings"):
        send.verdicts.checked_calibration(given)
    assert send.verdicts.checked_calibration(None) is None and send.verdicts.checked_calibration({}) is None


def test_why_it_is_a_quantile(send, world_calibration):
    asked = {**world_calibration, "by": "quantile", "youden_j": None}
    for said, change in {
        "do not score higher here": {},
        "none were given": {"num_wrong": None, "auroc": {}},
        "and all are right": {"num_wrong": 0, "auroc": {}},
        "and all are wrong": {"num_wrong": 80, "auroc": {}},
    }.items():
        assert said in send.reports.calibration_words({**asked, **change})
    assert "Youden" not in send.reports.calibration_words({**asked, "asked_by": "quantile"})


def test_files_to_take_home(send, world_calibration, monkeypatch, tmp_path):
    monkeypatch.setattr(send.calibration, "download_folder", lambda: tmp_path)
    table, summary = send.calibration.write_files(world_calibration)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in world_calibration["rows"]]
    assert [float(row["eigenscore"]) for row in rows] == [row["eigenscore"] for row in world_calibration["rows"]]
    kept = json.loads(open(summary).read())
    assert kept["threshold"] == world_calibration["threshold"] and kept["settings"] == world_calibration["settings"]


def test_a_models_words_are_not_markup(send):
    assert "<" not in send.reports.plain_text("<b>*bold*</b>") and "*" not in send.reports.plain_text("*bold*")
    assert send.reports.plain_text("Cairo\n  Égypte") == "Cairo Égypte"


# ---------------------------------------------------------------- prompts


def test_pasted_prompts(send):
    text = "\n".join([f"q{n}? => Paris | City of Paris" for n in range(7)] + ["", "last => x"])
    found = send.prompt_files.parse_lines(text)
    assert found.prompts[0] == "q0?" and found.references[0] == ["Paris", "City of Paris"] and len(found.prompts) == 8
    assert send.prompt_files.parse_lines("\n".join(PROMPTS)).references == []


def test_uploaded_prompts(send, tmp_path):
    lines, table = tmp_path / "a.jsonl", tmp_path / "b.csv"
    lines.write_text("".join(json.dumps({"question": p, "answers": ["a", 2]}) + "\n\n" for p in PROMPTS))
    found = send.prompt_files.read_file(lines)
    assert found.prompts == PROMPTS and found.references == [["a", "2"]] * 8
    table.write_text("\ufeffprompt,answer\n" + "".join(f'"{p}, then",x\n' for p in PROMPTS), encoding="utf-8")
    found = send.prompt_files.read_file(table)
    assert found.prompts[0] == "the cat sat on, then" and found.references[0] == ["x"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "x", "must be a .jsonl or .csv file"),
        ("a.jsonl", "{", "line 1 is no JSON"),
        ("a.jsonl", "[1]", "line 1 must be an object"),
        ("a.jsonl", '{"text": "x"}', "row 1 has no column prompt; its columns are text"),
        ("a.jsonl", '{"prompt": "x"}', "give 8 to 200 prompts, got 1"),
        ("a.jsonl", '{"prompt": "x"}\n' * 201, "got 201"),
        ("a.jsonl", '{"prompt": "x"}\n' * 8 + '{"prompt": 3}', "prompt 9 must be a text"),
        (
            "a.jsonl",
            '{"prompt": "x"}\n' * 8 + '{"prompt": "x", "answer": "y"}',
            "to all prompts or to none, got 1 for 9",
        ),
        ("a.csv", "prompt\n" + "x\n" * 7, "got 7"),
        ("a.csv", "x" * (2 * 2**20 + 1), "more than 2 MiB"),
        ("a.jsonl", b"\xff\xfe", "a.jsonl is not text in utf-8"),
        ("a.jsonl", '{"prompt":' * 100_000, "a.jsonl: line 1 is nested too deeply"),
        ("a.csv", "prompt\n" + "x" * 140_000, "a.csv: no CSV: field larger than field limit"),
    ],
)
def test_prompts_that_cannot_be_used(send, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=said):
        send.prompt_files.read_file(path)


def test_prompts_must_be_given(send, writer):
    with pytest.raises(gr.Error, match="Paste prompts or upload a file"):
        send.calibration.prompts_of(own(send, writer), 60, [], " ", None)
    with pytest.raises(gr.Error, match="number of questions must be a whole number from 40 to 400"):
        send.calibration.prompts_of(settings(send), 20, ["known"], None, None)
    with pytest.raises(gr.Error, match="questions of their own"):
        send.api.calibrate(prompts=PROMPTS)
    with pytest.raises(gr.Error, match="right answer to each of 8 prompts or none, got 1"):
        send.api.calibrate(writer, PROMPTS, ["x"])


@pytest.mark.parametrize(
    ("judge", "answer", "right"),
    [
        ("exact", "The Paris.\nNext", True),
        ("exact", "Paris, France", False),
        ("contains", "It is Paris, France", True),
        ("contains", "Parisian", False),
        ("number", "so 5 and 7 make 12.", False),
        ("number", "it is 5", True),
    ],
)
def test_judges(send, judge, answer, right):
    assert send.judging.is_right(judge, answer, ["5"] if judge == "number" else ["Rome", "Paris"]) is right
    with pytest.raises(gr.Error, match="The rule must be one of exact, contains, number"):
        send.judging.is_right("near", answer, ["x"])
