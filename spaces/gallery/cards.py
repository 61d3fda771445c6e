# SPDX-License-Identifier: Apache-2.0
"""What the gallery says of every method: from the table of methods and the front matter of its Space."""

import base64
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import yaml

from eigenhub.hub.resources import find
from eigenhub.hub.space import paper_link
from eigenhub.methods import METHODS, Kind, Method


THUMBNAILS = Path(__file__).parent / "thumbnails"
KINDS: dict[Kind, str] = {
    "tuner": "Adapters",
    "model": "Models",
    "optimizer": "Optimizers",
    "callback": "Training",
    "metric": "Metrics",
    "federated": "Federated",
    "estimator": "Estimators",
}


@dataclass(frozen=True)
class Card:
    """
    One method as the gallery shows it.

    Args:
        method (`Method`): row of the table.
        headline (`str`): title of its Space.
        line (`str`): what its Space is, in one line.
        words (`str`): all that a search looks through, in lower case.
    """

    method: Method
    headline: str
    line: str
    words: str

    @property
    def slug(self) -> str:
        """The method's."""
        return self.method.slug

    @cached_property
    def html(self) -> str:
        """Everything on the card but its button."""
        m = self.method
        commands = "\n".join(f"eigenhub {command} {m.slug}" for command in ("info", "demo", "train", "space"))
        return (
            f"{thumbnail(m.slug, self.headline)}"
            f'<div class="card-words"><span class="card-kind">{escape(m.kind)}</span><h2>{escape(m.title)}</h2>'
            f'<p class="card-headline">{escape(self.headline)}</p><p>{escape(m.summary)}.</p>{paper_link(m)}'
            f"<details><summary>Commands</summary><pre tabindex='0'>{escape(commands)}</pre></details></div>"
        )


def card_of(method: Method) -> Card:
    """
    The card of a method; the front matter of its Space has the rest.

    Args:
        method (`Method`): row of the table.
    """
    _, front, text = (find(method.space) / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    words = [method.slug, method.title, method.kind, KINDS[method.kind], method.summary, method.paper, method.arxiv]
    return Card(method, card["title"], card["short_description"], " ".join([*words, *card["tags"], text]).lower())


def all_cards() -> list[Card]:
    """One for each method, in the order of the table."""
    return [card_of(method) for method in METHODS]


def chosen(cards: list[Card], kind: str, words: str | None) -> set[str]:
    """
    Slugs of the cards of one kind that have all the words that are looked for.

    Args:
        cards (`list[Card]`): all of them.
        kind (`str`): of the methods; empty for any.
        words (`str`, *optional*): separated by blanks; beginnings of words are enough.
    """
    wanted = (words or "").lower().split()
    fitting = [card for card in cards if kind in ("", card.method.kind)]
    return {card.slug for card in fitting if all(word in card.words for word in wanted)}


def thumbnail(slug: str, headline: str) -> str:
    """
    HTML of a picture of the Space; part of the page, so that no address has to be right wherever it is served.

    Args:
        slug (`str`): the method.
        headline (`str`): title of its Space.
    """
    path = THUMBNAILS / f"{slug}.webp"
    if not path.is_file():  # of a method that has just been added
        return f'<div class="card-picture"><b>{escape(headline)}</b></div>'
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<div class="card-picture"><img src="data:image/webp;base64,{data}" alt="Its Space: {escape(headline)}"></div>'
