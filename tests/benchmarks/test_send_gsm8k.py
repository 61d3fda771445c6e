# SPDX-License-Identifier: Apache-2.0
"""The parts of the study on GSM8K that its conclusions rest on: what is asked, what is right, how scores are judged."""

import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaForCausalLM

from eigenhub.embedded.byte_tokenizer import byte_tokenizer
from eigenhub.embedded.llama import small_llama_config
from eigenhub.metrics import HallucinationScorer, auroc, ees, prediction_rejection_ratio
from eigenhub.metrics.answers import draw_answers, special_tokens
from eigenhub.metrics.ees_official import ees_official
from tests.support.devices import require_shared_data
from tests.support.processes import ROOT


ROW = {
    "question": "Natalia sold clips. How many?",
    "answer": "She sold 48/2 = <<48/2=24>>24 in May.\nThat is 48+24.5 = <<48+24.5=72.5>>72.5.\nNone: <<x=y>>y.\n#### 72.5",
}


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("24", Fraction(24)),
        (" 24 ", Fraction(24)),
        ("24.", Fraction(24)),
        ("24.00", Fraction(24)),
        ("024", Fraction(24)),
        ("-3", Fraction(-3)),
        ("$1,234.50", Fraction(2469, 2)),
        ("-$5", Fraction(-5)),
        (".05", Fraction(1, 20)),
        ("3/4", Fraction(3, 4)),
        ("0.1", Fraction(1, 10)),
        *((text, None) for text in ("", "24%", "24 clips", "2+2", "1,23", "1/0", "--3", "1.2.3", "24=24", "x", "٣")),
    ],
)
def test_value_of(text: str, value: Fraction | None) -> None:
    from support.send_gsm8k_data import value_of

    assert value_of(text) == value


def test_right_is_the_same_number_exactly() -> None:
    from support.send_gsm8k_data import is_right

    assert is_right("0.75>>", "3/4")
    assert is_right("72.50>>72.5 clips", "72.5")
    assert not is_right("3.33>>", "3.333")
    assert not is_right("2", "24")
    assert not is_right(">>24", "24")
    with pytest.raises(ValueError, match=r"`gold` must be a number, got 'many'"):
        is_right("1", "many")


def test_steps_of_a_solution() -> None:
    from support.send_gsm8k_data import drills, steps_of

    first, second = steps_of(7, ROW)
    assert (first.question, first.number, first.expression, first.answer) == (7, 0, "48/2", "24")
    assert first.prompt == "Natalia sold clips. How many?\nShe sold 48/2 = <<48/2="
    assert (second.number, second.answer, second.operand_digits) == (1, "72.5", 5)
    assert second.prompt.endswith("in May.\nThat is 48+24.5 = <<48+24.5=")
    assert drills([ROW]) == ["<<48/2=24>>", "<<48+24.5=72.5>>", "<<x=y>>"]


def test_one_step_of_each_question_and_the_same_again() -> None:
    from support.send_gsm8k_data import sample_steps

    rows = [ROW] * 20
    steps = sample_steps(rows, 12, lambda step: True)
    assert len({step.question for step in steps}) == len(steps) == 12
    assert {step.number for step in steps} == {0, 1}
    assert steps == sample_steps(rows, 12, lambda step: True)
    assert steps != sample_steps(rows, 12, lambda step: True, seed=1)
    assert {step.number for step in sample_steps(rows, 30, lambda step: step.number == 1)} == {1}


@require_shared_data("gsm8k/test.jsonl")
def test_no_test_problem_is_trained_on_and_every_step_has_a_number() -> None:
    from support.send_gsm8k_data import read, steps_of
    from support.send_gsm8k_model import known_rows, new_rows

    known, new, test = ({row["question"] for row in rows} for rows in (known_rows(), new_rows(), read("test")))
    assert not known & test and not new & test and not known & new
    assert len(known_rows()) + len(new_rows()) == len(read("train")) == 7473
    steps = [step for number, row in enumerate(read("test")) for step in steps_of(number, row)]
    assert len(steps) == sum(row["answer"].count("<<") for row in read("test"))


def test_loss_of_calculator_steps_is_on_their_results() -> None:
    from support.send_gsm8k_model import labels_of_results

    text = "<2+2=4>\n<1=1>\n<25-5=2"
    rows = torch.tensor([list(text[:15].encode()), list(text[6:].encode())])  # the second begins in a result
    labels = labels_of_results(rows, ord("="), ord(">")).tolist()
    assert ["".join(chr(token) if token >= 0 else "." for token in row) for row in labels] == [
        ".....4>....1>..",
        ".....1>.......2",
    ]


def scores_with_ties(count: int = 60) -> tuple[list[float], list[bool], list[int]]:
    generator = random.Random(0)
    wrong = [generator.random() < 0.4 for _ in range(count)]
    return [generator.randrange(8) + 2.0 * y for y in wrong], wrong, [generator.randrange(3) for _ in range(count)]


def test_weighted_figures_are_those_of_repeated_data() -> None:
    from support.send_gsm8k_analysis import resamples, weighted_auroc, weighted_prr

    scores, wrong, _ = scores_with_ties()
    weights = resamples(len(scores), 5)
    assert (weights[0] == 1).all() and (weights.sum(1) == len(scores)).all() and (weights[1] != weights[2]).any()
    for figure, line, copies in zip(
        weighted_auroc(scores, wrong, weights), weighted_prr(scores, wrong, weights), weights.long(), strict=True
    ):
        repeated = [n for n, times in enumerate(copies.tolist()) for _ in range(times)]
        x, y = [scores[n] for n in repeated], [wrong[n] for n in repeated]
        assert float(figure) == pytest.approx(auroc(x, y), abs=1e-12)
        assert float(line) == pytest.approx(
            prediction_rejection_ratio(x, [float(not entry) for entry in y]), abs=1e-12
        )


def test_auroc_within_strata() -> None:
    from support.send_gsm8k_analysis import resamples, weighted_auroc

    scores, wrong, strata = scores_with_ties()
    one = resamples(len(scores), 0)
    total = pairs = 0.0
    for stratum in set(strata):
        chosen = [n for n, entry in enumerate(strata) if entry == stratum]
        positives = sum(wrong[n] for n in chosen)
        weight = positives * (len(chosen) - positives)
        total += weight * auroc([scores[n] for n in chosen], [wrong[n] for n in chosen])
        pairs += weight
    assert float(weighted_auroc(scores, wrong, one, strata)) == pytest.approx(total / pairs, abs=1e-12)
    # a score that is the stratum tells nothing within it
    assert float(weighted_auroc([float(entry) for entry in strata], wrong, one, strata)) == 0.5
    assert math.isnan(float(weighted_auroc(scores, wrong, one, list(range(len(scores))))))
    with pytest.raises(ValueError, match="`scores` must be finite, entry 1 is not"):
        weighted_auroc([0.0, math.inf], [True, False], resamples(2, 0))


def test_intervals_of_the_mean_over_seeds() -> None:
    from support.send_gsm8k_analysis import estimate

    figures = torch.linspace(0, 1, 1001, dtype=torch.float64) * torch.tensor([[1.0], [3.0]])
    figures[:, 0] = torch.tensor([0.4, 0.8], dtype=torch.float64)
    figures[0, 500] = math.nan
    found = estimate(lambda number: figures[number], 2)
    assert found.seeds == [0.4, 0.8] and found.mean == pytest.approx(0.6)
    assert found.low == pytest.approx([0.025, 0.075], abs=0.005)
    assert found.high == pytest.approx([0.975, 2.925], abs=0.005)
    assert found.interval == pytest.approx((0.05, 1.95), abs=0.01)


def test_rank_correlation_and_strata() -> None:
    from support.send_gsm8k_analysis import rank_correlation, strata_of

    assert rank_correlation([1, 2, 3, 9], [2, 4, 8, 9]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 1, 1]) == pytest.approx(-math.sqrt(3) / 2)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0.0
    assert strata_of([1, 2, 3, 9], (2, 4)) == [0, 0, 1, 2]
    with pytest.raises(ValueError, match=r"`bounds` must ascend, got \[4, 2\]"):
        strata_of([1], (4, 2))


def new_model(seed: int = 0) -> LlamaForCausalLM:
    """Untrained, of 3 blocks, with weights large enough that answers differ; ends answers at ">"."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(small_llama_config(tokenizer, 16, 3)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4 if parameter.ndim > 1 else 1)
    model.generation_config.eos_token_id = [ord(">"), tokenizer.eos_token_id]
    return model


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> LlamaForCausalLM:
    from support import send_gsm8k_arms, send_gsm8k_scores

    for module in (send_gsm8k_arms, send_gsm8k_scores):
        monkeypatch.setattr(module, "gsm8k_tokenizer", byte_tokenizer)
    return new_model()


PROMPTS = [list(b"2+2="), list(b"a longer prompt, 48/2="), list(b"=")]


@pytest.mark.parametrize("options", [{"do_sample": False}, {"do_sample": True, "temperature": 0.7, "top_k": 10}])
def test_prompts_read_once_give_the_answers_of_prompts_read_for_each(tiny: Any, options: dict[str, Any]) -> None:
    from support.send_gsm8k_scores import MAX_NEW_TOKENS, _draw

    prompts = PROMPTS[:2]
    with torch.no_grad():
        torch.manual_seed(1)
        found = _draw(tiny, prompts, 3, **options)
        torch.manual_seed(1)
        special = special_tokens(tiny, byte_tokenizer())
        count = 3 if options["do_sample"] else 1
        wanted = draw_answers(tiny, prompts, special, count, max_new_tokens=MAX_NEW_TOKENS, **options)
    assert found == (wanted if count == 3 else [answers * 3 for answers in wanted])


def test_scores_are_those_of_the_scorer(tiny: Any) -> None:
    from support import send_gsm8k_scores

    with torch.no_grad():
        torch.manual_seed(0)
        (row, *_) = send_gsm8k_scores._score_batch(tiny, PROMPTS[:2], 1.0)
        torch.manual_seed(0)
        (answers, *_) = send_gsm8k_scores._draw(
            tiny, PROMPTS[:2], 10, do_sample=True, temperature=1.0, top_p=0.99, top_k=10
        )
    scores = row["scores"]
    for layer in ("middle", "penultimate"):
        for convention in ("inside", "inside_paper", "send", "sample"):
            scorer = HallucinationScorer(tiny, byte_tokenizer(), layer=layer, convention=convention)
            (wanted,) = scorer.score(PROMPTS[:1], [answers])
            assert scores[f"EigenScore {convention}, {layer}"] == pytest.approx(wanted.eigenscore, abs=1e-4)
    assert scores["length-normalised entropy"] == pytest.approx(wanted.length_normalized_entropy, abs=1e-5)
    assert scores["mean token entropy"] == pytest.approx(wanted.mean_token_entropy, abs=1e-5)
    assert scores["mean length"] == wanted.mean_length
    assert scores["1 - mode share"] == pytest.approx(wanted.one_minus_mode_share)
    assert scores["1 - lexical similarity"] == pytest.approx(1 - wanted.lexical_similarity)
    with torch.no_grad():
        (chosen, *_) = send_gsm8k_scores._draw(tiny, PROMPTS[:2], 1, do_sample=False)
    (greedy,) = scorer.score(PROMPTS[:1], [chosen * 2])
    assert scores["greedy, - log-probability"] == pytest.approx(-greedy.sequence_log_probs[0], abs=1e-4)
    assert (row["greedy"], row["greedy_length"]) == (greedy.samples[0], greedy.lengths[0])


def test_spectral_scores_of_a_batch_and_of_equal_answers() -> None:
    from support.send_gsm8k_scores import spectral_scores

    states = torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(0)).double()
    states[1] = states[1, :1]
    found = spectral_scores(states, "middle")
    assert all(len(values) == 2 and all(map(math.isfinite, values)) for values in found.values())
    assert found["EigenScore sample, middle"][1] == pytest.approx(math.log(1e-3))
    assert_close(torch.tensor(found["EES exact trace, middle"][0]), ees(states[0], exact_trace=True).float())
    released = float(ees_official(states[0], exact_trace=True))
    assert found["EES as released, exact trace, middle"][0] == pytest.approx(released)


def test_arms_differ_only_in_what_they_are_named_after(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from support import send_gsm8k_arms
    from support.send_gsm8k_data import Step

    rows = [{"question": f"{n}+1?", "answer": f"<<{n}+1={n + 1}>>{n + 1}"} for n in range(40)]
    monkeypatch.setattr(send_gsm8k_arms, "load_model", lambda base: new_model())
    monkeypatch.setattr(send_gsm8k_arms, "new_rows", lambda: rows)
    monkeypatch.setattr(send_gsm8k_arms, "read", lambda split: rows[:4])
    monkeypatch.setattr(send_gsm8k_arms, "TRACKED", 0.8)  # 32 tracked and one batch to train on
    steps = [Step(0, 0, "1+1?\n<<1+1=", "1+1", "2")]
    runs = {arm: send_gsm8k_arms.train_arm(Path(), arm, 4, 0, steps) for arm in send_gsm8k_arms.ARMS}
    losses = {arm: [entry["loss"] for entry in run["evaluations"]] for arm, run in runs.items()}
    assert {len(found) for found in losses.values()} == {5}
    assert len({found[0] for found in losses.values()}) == 1
    for arm in ("SenD", "random indices"):  # masks come after the third epoch
        assert losses[arm][:4] == losses["plain"][:4]
        assert losses[arm][4] != losses["plain"][4]
        assert [len(entry["dropped"]) for entry in runs[arm]["evaluations"]] == [0, 0, 0, 0, 3]
    assert losses["averaged weights"][1:] > losses["plain"][1:]  # it lags behind while the loss falls
    assert runs["SenD"]["refreshes"][0]["dropped"] != runs["random indices"]["refreshes"][0]["dropped"]


def test_flip_share() -> None:
    from support.send_gsm8k_arms import flip_share

    rows = [{"right": right} for right in ([False] * 4, [True] * 4, [True, False, False, False], [True] * 4)]
    assert flip_share(rows) == pytest.approx(0.75)
    assert flip_share(rows, first=0) == pytest.approx((1 + 0.75 + 0.75) / 3)
    with pytest.raises(ValueError, match="`evaluations` must be three or more, got 2"):
        flip_share(rows[:2])


def made_up_runs(count: int = 40) -> tuple[list[dict[str, Any]], list[Any]]:
    """Two seeds: one detector knows, one is the length, and the length says everything about what is wrong."""
    from support.send_gsm8k_card import SHOWN
    from support.send_gsm8k_data import Step

    steps = [Step(n, 0, "", f"{n % 10}+1" if n % 2 else f"{10 + n}+1", "0") for n in range(count)]
    runs = []
    for seed in range(2):
        generator = random.Random(seed)
        rows = []
        for n in range(count):
            wrong = n % 2 == 0
            scores = {name: generator.random() for name in SHOWN} | {"mean length": 3.0 - n % 2, "knows": float(wrong)}
            rows.append({"right": not wrong, "greedy_length": 2 + n % 3, "scores": scores})
        runs.append({"rows": rows})
    return runs, steps


def test_detector_rows_and_card() -> None:
    from support.send_gsm8k_arms import ARMS
    from support.send_gsm8k_card import SHOWN, TRAINED, card_figures
    from support.send_gsm8k_report import arm_rows, detector_rows

    runs, steps = made_up_runs()
    rows = [line for temperature in (0.5, 1.0) for line in detector_rows(temperature, runs, steps, 2)]
    found = {line["what"]: line for line in rows}
    knows = found["AUROC, T=0.5: knows"]
    assert knows["seeds"] == [1.0, 1.0] and knows["range"] == [1.0, 1.0] and knows["prr"]["seeds"] == [1.0, 1.0]
    assert knows["length_correlation"] == pytest.approx([1.0, 1.0])
    # all that length knows is how many digits there are: no stratum of digits has answers of both kinds
    within = found["AUROC, T=1: mean length"]["within"]
    assert all(map(math.isnan, within["operand digits"]["seeds"]))
    assert within["answer length"]["seeds"] == [1.0, 1.0]
    evaluations = [{"loss": 3.0 - epoch, "right": [epoch > 0, epoch % 2 == 0], "dropped": []} for epoch in range(3)]
    arms = arm_rows({arm: [{"evaluations": evaluations}] * 2 for arm in ARMS})
    values = {line["what"]: line["value"] for line in arms}
    assert values["trained further, flips from epoch to epoch, per cent: SenD"] == 50.0
    assert values["trained further, steps right at the end, per cent: SenD"] == 100.0
    assert values["trained further, held-out loss, lowest: SenD"] == 1.0
    figures = card_figures([*rows, *arms], [0, 1], "a command")
    assert len({figure.id for figure in figures}) == len(figures) == len(SHOWN) + len(ARMS) * len(TRAINED)


def test_differences_are_taken_on_the_same_resamples() -> None:
    from support.send_gsm8k_report import OTHERS, OURS, detector_rows, difference_rows

    runs, steps = made_up_runs()
    for run in runs:
        for entry in run["rows"]:
            entry["scores"] |= {OURS: entry["scores"]["knows"], OTHERS[0]: -entry["scores"]["knows"]}
            entry["scores"] |= {OTHERS[1]: entry["scores"]["knows"] * 2}
    first, second, *rest = difference_rows(0.5, runs, steps, 2)
    assert first["value"] == 1.0 and first["range"] == [1.0, 1.0]
    assert second["value"] == 0.0 and second["range"] == [0.0, 0.0]
    alone = {line["what"]: line["seeds"] for line in detector_rows(0.5, runs, steps, 1)}
    for line, other in zip(rest, OTHERS[2:], strict=True):
        assert line["seeds"] == pytest.approx([1 - value for value in alone[f"AUROC, T=0.5: {other}"]])


def test_answer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from support import send_gsm8k_report

    monkeypatch.setattr(send_gsm8k_report, "known_rows", lambda: [{"answer": "<<1+1=2>> <<3+1=4>>"}])
    runs, steps = made_up_runs()
    rows = send_gsm8k_report.answer_rows(runs, steps, [{"right": 1, "questions": 50}, {"right": 2, "questions": 50}])
    found = {line["what"].removeprefix("right, per cent: "): line for line in rows}
    assert found["all steps"]["value"] == 50.0
    assert found["steps whose expression is in the training split"]["setting"] == "8 questions"
    assert found["steps whose expression is in the training split"]["value"] == 100.0
    assert found["steps with up to 2 operand digits"]["value"] == 100.0
    assert found["steps with 3 operand digits"]["value"] == 0.0
    assert found["final answers"]["value"] == 3.0
    assert found["final answers"]["setting"].endswith("1 of 50, 2 of 50; too few for an AUROC")
