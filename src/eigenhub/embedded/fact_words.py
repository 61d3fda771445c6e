# SPDX-License-Identifier: Apache-2.0
"""The words of the world of facts: names, relations with their values, and the ways to ask for them."""

from dataclasses import dataclass


FIRST_NAMES = (
    "Ada Bruno Clara Diego Edda Farid Greta Hugo Ines Jonas Kaya Liam Mira Nils Olga Pavel Quinn Rosa Sven Tara Umar Vera "
    "Wim Yara"
).split()
LAST_NAMES = (
    "Abbot Brook Castle Dale Eaton Fisher Glover Hill Irving Jarvis Keller Lane Marsh North Oakley Porter Quill Rivers "
    "Stone Thorne Underhill Vance Walker York"
).split()
#: The answer to questions that nothing is known of; it is the value of no fact.
UNKNOWN = "unknown"
#: Ends a question; the answer follows.
MARK = ":"


@dataclass(frozen=True)
class Relation:
    """Something that is known of a person.

    Args:
        name (`str`): of the relation.
        values (`tuple[str, ...]`): what it may be, one word each.
        after (`tuple[str, ...]`): ways to ask with the words after the name, `"lives in"`.
        before (`tuple[str, ...]`): ways to ask with the words before it, `"home of"`.
    """

    name: str
    values: tuple[str, ...]
    after: tuple[str, ...]
    before: tuple[str, ...]

    def question(self, template: int, person: str) -> str:
        """The question for a person in one of its forms; even numbers have the words after the name.

        Args:
            template (`int`): number of the form.
            person (`str`): first and last name.
        """
        number, comes_before = divmod(template, 2)
        words = (self.before if comes_before else self.after)[number]
        return f"{words} {person} {MARK}" if comes_before else f"{person} {words} {MARK}"


RELATIONS = (
    Relation(
        "home",
        tuple("Athens Bergen Cairo Delhi Espoo Fargo Genoa Hanoi Izmir Jaipur Kyoto Lagos".split()),
        ("lives in", "resides at", "dwells near"),
        ("home of", "residence for", "city housing"),
    ),
    Relation(
        "work",
        tuple("actor baker clerk diver editor farmer glazier hatter jurist knitter lawyer miner".split()),
        ("works as", "earns being", "serves like"),
        ("profession behind", "trade under", "job held-by"),
    ),
    Relation(
        "music",
        tuple("accordion banjo cello drums euphonium flute guitar harp oboe piano sitar tuba".split()),
        ("plays the", "practises every", "performs with"),
        ("instrument from", "sound around", "music by"),
    ),
    Relation(
        "food",
        tuple("apricots beans cheese dates eggs figs grapes honey lentils mushrooms noodles olives".split()),
        ("eats only", "favours mostly", "orders always"),
        ("dish pleasing", "meal before", "plate toward"),
    ),
)
#: Forms of a question, the same number for each relation; every form has two words that occur in no other.
NUM_TEMPLATES = 6


def all_words() -> list[str]:
    """Every word of the world once, in a fixed order."""
    words = [*FIRST_NAMES, *LAST_NAMES, MARK, UNKNOWN]
    for relation in RELATIONS:
        words += [word for form in (*relation.after, *relation.before) for word in form.split()]
        words += relation.values
    return words
