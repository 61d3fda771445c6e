# SPDX-License-Identifier: Apache-2.0
"""From a click on a card to its Space on the page, and back."""

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import gradio as gr
from apps import Apps, StartError
from cards import Card
from places import frame, hub_app, hub_owner, hub_page, link, local_app

from eigenhub.hub.space_sessions import Session


APPS = Apps()
LONG = 8  # seconds after which a visitor wants to know why it takes so long


def turner(card: Card) -> Callable[[gr.Request], list[Any]]:
    """
    The event that turns from the cards to the place of a Space.

    Args:
        card (`Card`): of the method.
    """

    def turn(request: gr.Request) -> list[Any]:
        Session.end(request)  # another card, opened before and still starting
        return [gr.Column(visible=False), gr.Column(visible=True), card.slug, waiting(card, 0), ""]

    return turn


def opener(card: Card, demo: gr.Blocks) -> Callable[[gr.Request], Iterator[list[str]]]:
    """
    The event that opens the Space of a card.

    Args:
        card (`Card`): of the method.
        demo (`gr.Blocks`): the gallery.
    """

    def open_space(request: gr.Request) -> Iterator[list[str]]:
        owner, title = hub_owner(), escape(card.method.title)
        if owner:
            yield shown(card, f"{title}: {link(hub_page(owner, card.slug))}", hub_app(owner, card.slug))
        elif demo.share:  # a stranger could not reach it, and shall not start programs here
            yield shown(
                card, f"A shared gallery opens no Spaces. Share {title} itself: {command(card)} <code>--share</code>"
            )
        else:
            with Session(request, card.slug) as session:
                for update in starting(card, str(request.request.url)):
                    if not session.goes_on:
                        return
                    yield update

    return open_space


def starting(card: Card, gallery: str) -> Iterator[list[str]]:
    """What the page shows while a Space starts, and then the Space, or why there is none."""
    title = escape(card.method.title)
    try:
        app = APPS.get(card.slug)
        for waited in app.opening():
            yield shown(card, waiting(card, waited))
    except (StartError, OSError) as error:
        APPS.stop(card.slug)
        hint = f"Try {command(card)} in a terminal, which shows all that it says."
        yield shown(
            card, f'<p class="failed" role="alert">{title} did not start: {escape(str(error)[:300])}</p><p>{hint}</p>'
        )
        return
    url = local_app(gallery, app.port)
    yield shown(card, f"{title}: {link(url)}", url)


def command(card: Card) -> str:
    """HTML of the command that opens the Space of a card."""
    return f"<code>eigenhub space {card.slug}</code>"


def waiting(card: Card, seconds: float) -> str:
    """A line for somebody who waits."""
    why = " It loads its libraries; this takes longest the first time." if seconds > LONG else ""
    return f'<p role="status">Starting {escape(card.method.title)}, {seconds:.0f} s …{why}</p>'


def shown(card: Card, words: str, url: str = "") -> list[str]:
    """What is said above the Space, and the Space."""
    return [words, frame(url, card.headline) if url else ""]


def leave(_: str, request: gr.Request) -> list[Any]:
    """Back to the cards; the Space goes on, so that it opens at once the next time."""
    Session.end(request)
    return [gr.Column(visible=True), gr.Column(visible=False), "", ""]


def stop(slug: str, request: gr.Request) -> list[Any]:
    """Back to the cards, and the Space ends."""
    APPS.stop(slug)
    return leave(slug, request)
