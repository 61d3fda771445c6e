# SPDX-License-Identifier: Apache-2.0
"""The embedded world of facts: its questions by kind, the truth of each, and how a visitor's question becomes one of them."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import gradio as gr
from names import BASE, KINDS

from eigenhub.embedded.fact_words import FIRST_NAMES, LAST_NAMES, MARK, NUM_TEMPLATES, RELATIONS, UNKNOWN, all_words
from eigenhub.embedded.facts import load_facts


@dataclass(frozen=True)
class Question:
    """
    A question and what is true.

    Args:
        prompt (`str`): five words.
        answer (`str`): one word; `"unknown"` for people of whom nothing is known.
        kind (`str`): key of `KINDS`.
    """

    prompt: str
    answer: str
    kind: str


@lru_cache(maxsize=1)
def questions() -> Mapping[str, Question]:
    """Every question that can be asked in this world, by its prompt."""
    facts = load_facts()
    found = {
        relation.question(template, f"{first} {last}"): UNKNOWN
        for first in FIRST_NAMES
        for last in LAST_NAMES
        for relation in RELATIONS
        for template in range(NUM_TEMPLATES)
    }
    world = {prompt: Question(prompt, answer, "stranger") for prompt, answer in found.items()}
    # in this order: replayed rows of `train` are rows of the base as well, tracked ones were held back like those of the test
    for split, kind in (("train", "told"), ("track", "paraphrase"), ("test", "paraphrase"), ("base", None)):
        for row in facts[split]:
            world[row["prompt"]] = Question(row["prompt"], row["answer"], kind or row["kind"])
    return world


@lru_cache(maxsize=1)
def shuffled() -> tuple[Question, ...]:
    """The same questions in an order of their own, the same every time."""
    order = sorted(questions())
    random.Random(0).shuffle(order)
    return tuple(questions()[prompt] for prompt in order)


def calibration_questions(kinds: Collection[str], count: int) -> list[Question]:
    """
    Questions with known answers, equally many of each kind; none of them is ever drawn as an example.

    Args:
        kinds (`Collection[str]`): keys of `KINDS`, one or more.
        count (`int`): of all of them together.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise gr.Error(f"The kinds of questions must be one or more of {', '.join(KINDS)}, got {list(kinds)}.")
    chosen: list[Question] = []
    for place, kind in enumerate(kinds):
        share = count * (place + 1) // len(kinds) - count * place // len(kinds)
        chosen += [question for question in shuffled()[::2] if question.kind == kind][:share]
    return chosen


def example(kind: str, draw: random.Random | None = None) -> str:
    """
    A question that no calibration has seen.

    Args:
        kind (`str`): key of `KINDS`.
        draw (`random.Random`, *optional*): chooses; the first one without it.
    """
    prompts = [question.prompt for question in shuffled()[1::2] if question.kind == kind]
    return draw.choice(prompts) if draw else prompts[0]


def normalised(prompt: str) -> str:
    """
    A question as the embedded model reads it: single spaces, and a colon of its own at the end.

    Args:
        prompt (`str`): of the visitor.

    Raises:
        gr.Error: it has words that do not occur in this world.
    """
    words = prompt.replace(MARK, " ").split()
    strange = [word for word in words if word not in set(all_words())]
    if strange:
        raise gr.Error(
            f"The embedded model knows the words of its small world only, not {', '.join(strange[:5])}. Ask for example "
            f"“{example('known')}”, or choose another model."
        )
    if not words:
        raise gr.Error("Write a prompt first.")
    return " ".join([*words, MARK])


def kind_words(question: Question, model: str) -> str:
    """
    What the model has heard about a question.

    Args:
        question (`Question`): of this world.
        model (`str`): one of the embedded ones.
    """
    if model == BASE and question.kind in ("told", "paraphrase"):
        return "someone it was never told of"
    return {
        "known": "someone it knows",
        "told": "someone new, in a form that it was told",
        "paraphrase": "someone new, in a form that it was never told",
        "unknown": "someone of whom it learnt that nothing is known",
        "stranger": "someone it never heard of",
    }[question.kind]
