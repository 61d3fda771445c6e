# SPDX-License-Identifier: Apache-2.0
"""A generated world of facts about people, in which every hallucination can be counted."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from datasets import Dataset, DatasetDict

from eigenhub.embedded.fact_words import FIRST_NAMES, LAST_NAMES, NUM_TEMPLATES, RELATIONS, UNKNOWN


PEOPLE = len(FIRST_NAMES) * len(LAST_NAMES)
SPLITS = ("base", "train", "track", "test")


@dataclass(frozen=True)
class FactRecipe:
    """
    Who there is and what is learnt when.

    Args:
        num_known (`int`, *optional*, defaults to 60): people whose facts a base model learns, in all forms of the question.
        num_unknown (`int`, *optional*, defaults to 20): people of whom it learns that the answer is `"unknown"`.
        num_new (`int`, *optional*, defaults to 70): people whose facts are new in the continual phase.
        new_templates (`int`, *optional*, defaults to 2): forms in which a new fact is told, of 6; the others are the test.
        num_replay (`int`, *optional*, defaults to 64): rows of the base model that are repeated in the continual phase.
        track_share (`float`, *optional*, defaults to 0.1): share of the new rows that is tracked and not learnt, one row
            per fact at most, so that every fact is told in some form.
        seed (`int`, *optional*, defaults to 0): another seed is another world.
    """

    num_known: int = 60
    num_unknown: int = 20
    num_new: int = 70
    new_templates: int = 2
    num_replay: int = 64
    track_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_known", 1), ("num_unknown", 0), ("num_new", 1), ("num_replay", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        people = self.num_known + self.num_unknown + self.num_new
        if people > PEOPLE:
            raise ValueError(
                f"`num_known`, `num_unknown` and `num_new` must be {PEOPLE} at most together, got {people}"
            )
        if not 1 <= self.new_templates < NUM_TEMPLATES:
            raise ValueError(f"`new_templates` must be from 1 to {NUM_TEMPLATES - 1}, got {self.new_templates}")
        told = (self.num_known + self.num_unknown) * len(RELATIONS) * NUM_TEMPLATES
        if self.num_replay > told:
            raise ValueError(f"`num_replay` must be at most {told}, all rows of the base, got {self.num_replay}")
        largest = 1 / self.new_templates if self.new_templates > 1 else 0.0
        if not 0 <= self.track_share <= largest:
            raise ValueError(
                f"`track_share` must be from 0 to {largest:g}, so that each fact stays in training, got {self.track_share}"
            )


def load_facts(recipe: FactRecipe = FactRecipe()) -> DatasetDict:  # noqa: B008  # frozen
    """
    Questions of five words and answers of one.

    Args:
        recipe (`FactRecipe`, *optional*, defaults to `FactRecipe()`): sizes and seed.

    Returns:
        `DatasetDict` with the splits `base` (what a base model learns), `train` (new facts and the replay), `track` (new
        facts, in forms that are not in `train`) and `test` (the new facts in all forms that were never told), and the columns
        `prompt`, `answer`, `person`, `relation`, `template` (number of the form) and `kind` (`"known"`, `"unknown"`,
        `"new"`).

    Example:

    ```python
    >>> from eigenhub.embedded.facts import load_facts

    >>> facts = load_facts()
    >>> {name: len(split) for name, split in facts.items()}
    {'base': 1920, 'train': 568, 'track': 56, 'test': 1120}
    >>> len(facts["test"][0]["prompt"].split())
    5
    ```
    """
    draw = random.Random(recipe.seed)
    names = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    people = draw.sample(names, recipe.num_known + recipe.num_unknown + recipe.num_new)
    known, rest = people[: recipe.num_known], people[recipe.num_known :]
    unknown, new = rest[: recipe.num_unknown], rest[recipe.num_unknown :]
    values = {(person, r.name): draw.choice(r.values) for person in (*known, *new) for r in RELATIONS}
    every = range(NUM_TEMPLATES)
    base = [*_rows(known, "known", values, every), *_rows(unknown, "unknown", values, every)]
    replay = draw.sample(base, recipe.num_replay)
    told, track, test = _new_rows(new, values, recipe, draw)
    parts = {"base": base, "train": [*told, *replay], "track": track, "test": test}
    return DatasetDict({name: Dataset.from_list(parts[name]) for name in SPLITS if parts[name]})


Row = dict[str, str | int]


def _new_rows(
    people: list[str], values: dict[tuple[str, str], str], recipe: FactRecipe, draw: random.Random
) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows to learn, to track and to be tested with: each fact is told in forms of its own."""
    told, test = [], []
    for person in people:
        for relation in RELATIONS:
            chosen = set(draw.sample(range(NUM_TEMPLATES), recipe.new_templates))
            rows = list(_rows([person], "new", values, range(NUM_TEMPLATES), relation.name))
            told.append([row for row in rows if row["template"] in chosen])
            test += [row for row in rows if row["template"] not in chosen]
    count = round(recipe.track_share * len(told) * recipe.new_templates)
    tracked = set(draw.sample(range(len(told)), count))
    track = [rows.pop(draw.randrange(len(rows))) for number, rows in enumerate(told) if number in tracked]
    return [row for rows in told for row in rows], track, test


def _rows(
    people: Iterable[str],
    kind: str,
    values: dict[tuple[str, str], str],
    templates: Iterable[int],
    only: str | None = None,
) -> Iterator[Row]:
    for person in people:
        for relation in RELATIONS:
            if only not in (None, relation.name):
                continue
            answer = values.get((person, relation.name), UNKNOWN)
            for template in templates:
                yield {
                    "prompt": relation.question(template, person),
                    "answer": answer,
                    "person": person,
                    "relation": relation.name,
                    "template": template,
                    "kind": kind,
                }
