# SPDX-License-Identifier: Apache-2.0
"""The world of facts: what is told, what is asked, and that every answer is counted."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eigenhub.embedded import fact_model
from eigenhub.embedded.fact_answers import (
    answer_questions,
    count_verdicts,
    encode_facts,
    flip_rate,
    question_ids,
    verdict,
    verdicts,
)
from eigenhub.embedded.fact_model import TARGET_MODULES, pretrained_fact_folder
from eigenhub.embedded.fact_tokenizer import fact_tokenizer
from eigenhub.embedded.fact_words import (
    FIRST_NAMES,
    LAST_NAMES,
    NUM_TEMPLATES,
    RELATIONS,
    UNKNOWN,
    all_words,
)
from eigenhub.embedded.facts import SPLITS, FactRecipe, load_facts
from tests.support.models import tiny_llama, tiny_tokenizer


SMALL = FactRecipe(num_known=3, num_unknown=2, num_new=3, num_replay=5)
TINY = {"hidden_size": 8, "num_layers": 1, "num_steps": 3, "batch_size": 8}
Facts = set[tuple[str, str]]


def facts_of(rows) -> Facts:
    return {(row["person"], row["relation"]) for row in rows}


def forms_of(rows) -> set[tuple[str, str, int]]:
    return {(row["person"], row["relation"], row["template"]) for row in rows}


def test_the_words_are_as_specified() -> None:
    assert (len(FIRST_NAMES), len(LAST_NAMES), len(RELATIONS), NUM_TEMPLATES) == (24, 24, 4, 6)
    for relation in RELATIONS:
        assert len(relation.values) == 12 and len(relation.after) == len(relation.before) == 3
        assert all(len(form.split()) == 2 for form in (*relation.after, *relation.before))
    words = all_words()
    assert len(words) == len(set(words)) == 24 + 24 + 2 + 4 * (6 * 2 + 12)


def test_the_default_world_has_the_sizes_of_the_study() -> None:
    facts = load_facts()
    assert {name: len(facts[name]) for name in SPLITS} == {
        "base": (60 + 20) * 4 * 6,
        "train": 70 * 4 * 2 - 56 + 64,
        "track": 56,
        "test": 70 * 4 * 4,
    }
    tokenizer = fact_tokenizer()
    for split in facts.values():
        assert {len(ids) for ids in tokenizer(split["prompt"][:])["input_ids"]} == {5}
        assert {len(ids) for ids in tokenizer(split["answer"][:])["input_ids"]} == {1}


def test_what_is_asked_was_never_told_and_every_fact_was() -> None:
    facts = load_facts()
    new = [row for row in facts["train"] if row["kind"] == "new"]
    told, tracked, asked = (forms_of(rows) for rows in (new, facts["track"], facts["test"]))
    assert len(new) == len(told) and not told & tracked and not (told | tracked) & asked
    assert len(told | tracked | asked) == 70 * 4 * 6
    assert facts_of(new) == facts_of(facts["test"]) and len(facts_of(facts["track"])) == 56
    replay = forms_of(row for row in facts["train"] if row["kind"] != "new")
    assert len(replay) == 64 and replay <= forms_of(facts["base"])


def test_a_fact_has_one_answer_in_all_forms_and_splits() -> None:
    answers: dict[tuple[str, str], set[str]] = {}
    kinds: dict[str, set[str]] = {}
    for row in (row for split in load_facts().values() for row in split):
        answers.setdefault((row["person"], row["relation"]), set()).add(row["answer"])
        kinds.setdefault(row["person"], set()).add(row["kind"])
        values = next(relation.values for relation in RELATIONS if relation.name == row["relation"])
        assert (row["answer"] == UNKNOWN) == (row["kind"] == "unknown")
        assert row["answer"] in (*values, UNKNOWN) and row["person"] in row["prompt"]
    assert all(len(found) == 1 for found in answers.values()) and len(answers) == 150 * 4
    assert all(len(found) == 1 for found in kinds.values())


def test_both_word_orders() -> None:
    home = RELATIONS[0]
    assert home.question(0, "Ada Brook") == "Ada Brook lives in :"
    assert home.question(1, "Ada Brook") == "home of Ada Brook :"
    assert len({home.question(template, "Ada Brook") for template in range(NUM_TEMPLATES)}) == NUM_TEMPLATES


def test_deterministic_by_seed() -> None:
    one, again, other = (load_facts(FactRecipe(seed=seed)) for seed in (3, 3, 4))
    for split in SPLITS:
        assert one[split][:] == again[split][:] and one[split][:5] != other[split][:5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_known": 0}, "`num_known` must be at least 1, got 0"),
        ({"num_replay": -1}, "`num_replay` must be at least 0, got -1"),
        ({"num_new": 500}, "must be 576 at most together, got 580"),
        ({"new_templates": 6}, "`new_templates` must be from 1 to 5, got 6"),
        ({"num_known": 1, "num_unknown": 0, "num_replay": 25}, "`num_replay` must be at most 24.*got 25"),
        ({"track_share": 0.6}, "`track_share` must be from 0 to 0.5, so that each fact stays in training, got 0.6"),
        ({"new_templates": 1}, "`track_share` must be from 0 to 0,"),
    ],
)
def test_bad_recipes(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FactRecipe(**options)


def test_empty_splits_are_left_out() -> None:
    facts = load_facts(FactRecipe(num_known=2, num_unknown=0, num_new=2, num_replay=0, track_share=0.0))
    assert set(facts) == {"base", "train", "test"}
    assert set(facts["train"]["kind"]) == {"new"}


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("Cairo", "Cairo", "right"),
        ("unknown", "unknown", "right"),
        ("unknown", "Cairo", "refused"),
        ("Delhi", "Cairo", "wrong"),
        ("Delhi", "unknown", "wrong"),
        ("", "Cairo", "wrong"),
        ("Cairo Cairo", "Cairo", "wrong"),
    ],
)
def test_verdicts(answer: str, truth: str, expected: str) -> None:
    assert verdict(answer, truth) == expected


def test_counts_and_flips() -> None:
    before = verdicts(["a", "b", "unknown", "d"], ["a", "x", "c", "d"])
    assert count_verdicts(before) == {"right": 2, "wrong": 1, "refused": 1, "hallucination": 0.25}
    after = verdicts(["a", "unknown", "c", "x"], ["a", "x", "c", "d"])
    assert flip_rate(before, after) == 0.5  # wrong to refused is no flip: neither is right
    assert flip_rate(after, after) == 0.0
    for call in (lambda: verdicts(["a"], []), lambda: verdicts([], []), lambda: flip_rate(before, after[:2])):
        with pytest.raises(ValueError, match="must be"):
            call()


@pytest.mark.parametrize("tokenizer", [fact_tokenizer(), tiny_tokenizer()], ids=["words", "pieces"])
def test_the_loss_is_on_the_answer_and_its_end(tokenizer) -> None:
    rows = load_facts(SMALL)["train"]
    for row, encoded in zip(rows, encode_facts(rows, tokenizer), strict=True):
        ids, labels = encoded["input_ids"], encoded["labels"]
        start = len(question_ids(tokenizer, row["prompt"]))
        assert ids[:start] == question_ids(tokenizer, row["prompt"]) and labels[:start] == [-100] * start
        assert labels[start:] == ids[start:] and ids[-1] == tokenizer.eos_token_id
        assert len(ids) > start + 1


def test_an_end_that_the_tokenizer_appends_is_no_part_of_the_question() -> None:
    from eigenhub.embedded.listops_tokenizer import listops_tokenizer

    closing = listops_tokenizer()
    assert question_ids(closing, "[MIN 3 4 ]") == closing("[MIN 3 4 ]")["input_ids"][:-1]
    silent = fact_tokenizer()
    silent.eos_token = None
    with pytest.raises(ValueError, match="`tokenizer` must have an end-of-sequence token"):
        encode_facts([{"prompt": "a", "answer": "b"}], silent)


def test_answers_are_the_most_probable_ones_in_any_batch() -> None:
    """Against the argmax of single forward passes, and questions of different lengths."""
    tokenizer = fact_tokenizer()
    model = tiny_llama(vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=tokenizer.eos_token_id).train()
    prompts = [*load_facts(SMALL)["test"]["prompt"][:9], "Ada", "Ada Brook lives in the :"]
    found = answer_questions(model, tokenizer, prompts, batch_size=4, max_new_tokens=1)
    assert model.training
    model.eval()
    for prompt, answer in zip(prompts, found, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        token = model(input_ids=ids).logits[0, -1].argmax()
        assert answer == tokenizer.decode([token], skip_special_tokens=True)


def test_pretrained_once_per_world(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    folder = pretrained_fact_folder(SMALL, **TINY)
    assert torch.equal(torch.get_rng_state(), state)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) and model.config.eos_token_id == tokenizer.eos_token_id
    names = {name.rpartition(".")[2] for name, part in model.gpt_neox.layers.named_modules() if hasattr(part, "bias")}
    assert set(TARGET_MODULES) <= names
    monkeypatch.setattr(fact_model, "fit", lambda *_: None)
    assert pretrained_fact_folder(SMALL, **TINY) == folder
    assert (
        pretrained_fact_folder(FactRecipe(num_known=3, num_unknown=2, num_new=3, num_replay=5, seed=1), **TINY)
        != folder
    )


def test_a_small_base_learns_its_facts(empty_cache: Path) -> None:
    """Three people; the whole base is the slow test below."""
    sizes = {"hidden_size": 32, "num_layers": 2, "num_steps": 120, "batch_size": 32, "lr": 1e-2}
    folder = pretrained_fact_folder(SMALL, **sizes)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = load_facts(SMALL)["base"]
    found = verdicts(answer_questions(model, tokenizer, rows["prompt"], max_new_tokens=2), rows["answer"])
    assert count_verdicts(found)["right"] >= 0.95 * len(rows)


@pytest.mark.slow
def test_the_base_answers_all_it_was_told_and_nothing_new() -> None:
    folder = pretrained_fact_folder()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    shares = {}
    for name, rows in load_facts().items():
        found = verdicts(answer_questions(model, tokenizer, rows["prompt"], max_new_tokens=2), rows["answer"])
        shares[name] = count_verdicts(found)["right"] / len(rows)
    assert shares["base"] == 1.0 and shares["test"] < 0.2
