# SPDX-License-Identifier: Apache-2.0
"""The gallery: a card for every method, and its Space on the same page."""

import gradio as gr
import opening
from cards import KINDS, all_cards, chosen
from places import hub_owner

from eigenhub.hub.space import Space
from eigenhub.hub.space_events import PRIVATE


SENTENCE = (
    "Methods that work with singular values, orthogonal matrices and fixed bases, each as an artefact of the Hugging Face libraries "
    "and with a page on which it can be tried. Choose a kind or write what you need."
)
STYLE = """
.cards { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1rem !important; }
.card { background: var(--block-background-fill); border: 1px solid var(--border-color-primary); overflow: hidden;
  border-radius: var(--block-radius); gap: 0 !important; min-width: 0 !important; }
.card:focus-within { border-color: var(--primary-500); }
.card > .block { border: 0 !important; flex: 1; }
.card-picture { aspect-ratio: 8 / 5; overflow: hidden; border-bottom: 1px solid var(--border-color-primary); display: grid;
  place-items: center; background: var(--background-fill-secondary); }
.card-picture img { width: 100%; height: 100%; object-fit: cover; object-position: top; display: block; }
.card-words { padding: .9rem 1rem .25rem; }
.card-words h2 { font-size: 1.2rem; font-weight: 700; margin: .35rem 0 .15rem; }
.card-words p { margin: 0 0 .5rem; font-size: .95rem; line-height: 1.45; }
.card-words .card-headline { color: color-mix(in srgb, var(--body-text-color) 68%, transparent); }
.card-words a { padding: 0 !important; font-size: .9rem; text-decoration: none; }
.card-words a:hover { text-decoration: underline; }
.card-kind { font-size: .75rem; padding: .1rem .55rem; border-radius: 1rem; color: var(--body-text-color);
  background: color-mix(in srgb, var(--primary-500) 16%, transparent); }
.card details { margin: .5rem 0 .25rem; font-size: .9rem; }
.card summary { cursor: pointer; }
.card pre { margin: .35rem 0 0; padding: .5rem .7rem; font-size: .82rem; line-height: 1.5; overflow-x: auto;
  border-radius: var(--radius-md); background: var(--background-fill-secondary); }
.card button { margin: .5rem 1rem 1rem; width: calc(100% - 2rem); }
#stage-words { min-width: 0; }
#stage-words p { margin: 0; overflow-wrap: anywhere; }
#stage-words .failed { color: #dc2626; }
#space-frame { width: 100%; height: max(38rem, calc(100vh - 9rem)); border: 1px solid var(--border-color-primary);
  border-radius: var(--block-radius); background: var(--body-background-fill); display: block; }
@media (max-width: 640px) { #space-frame { height: 85vh; border-radius: 0; margin: 0 -.75rem; width: calc(100% + 1.5rem);
  max-width: none; border-width: 1px 0; } }
"""
# Who came by keyboard goes on from where the page has turned to.
FOCUS_BACK = "() => {{ document.body.dataset.card = '{slug}'; document.querySelector('#back').focus(); }}"
FOCUS_CARD = "() => document.querySelector(`#open-${document.body.dataset.card}`).focus()"

CARDS = all_cards()

with Space(None, "The methods of eigenhub", SENTENCE, style=STYLE) as demo:
    opened = gr.State("")
    with gr.Column(elem_id="list") as listing:
        with gr.Row():
            counts = {kind: sum(card.method.kind == kind for card in CARDS) for kind in KINDS}
            kinds = [(f"{KINDS[kind]} ({count})", kind) for kind, count in counts.items() if count]
            kind = gr.Radio([(f"All ({len(CARDS)})", ""), *kinds], value="", label="Kind", elem_id="kind", scale=3)
            need = gr.Textbox(
                label="Need", placeholder="memory, privacy, images, …", elem_id="need", min_width=240, max_lines=1
            )
        found = gr.HTML("", visible=False, elem_id="found", elem_classes="space-html")
        with gr.Row(elem_classes="cards", equal_height=True):
            columns, buttons = [], []
            for card in CARDS:
                with gr.Column(elem_classes="card", elem_id=f"card-{card.slug}", min_width=0) as column:
                    gr.HTML(card.html, elem_classes="space-html")
                    buttons.append(gr.Button("Open", variant="primary", elem_id=f"open-{card.slug}"))
                columns.append(column)
    with gr.Column(visible=False, elem_id="stage") as stage:
        with gr.Row(equal_height=True):
            back = gr.Button("← All methods", elem_id="back", min_width=140, scale=0)
            words = gr.HTML(elem_id="stage-words", elem_classes="space-html", scale=1)
            stop = gr.Button("Stop", elem_id="stop", min_width=90, scale=0, visible=hub_owner() is None)
        frame = gr.HTML(elem_id="stage-frame", elem_classes="space-html")

    def narrow(kind: str, need: str) -> list[object]:
        """Which cards are shown."""
        slugs = chosen(CARDS, kind, need)
        nothing = gr.HTML("<p>No method has all of these words. Try fewer, or another kind.</p>", visible=not slugs)
        return [nothing, *(gr.Column(visible=card.slug in slugs) for card in CARDS)]

    quiet = {"show_progress": "hidden", **PRIVATE}
    gr.on(
        [kind.change, need.change],
        narrow,
        [kind, need],
        [found, *columns],
        api_name="narrow",
        queue=False,
        trigger_mode="always_last",
        **quiet,
    )
    for card, button in zip(CARDS, buttons, strict=True):
        turned = button.click(
            opening.turner(card),
            None,
            [listing, stage, opened, words, frame],
            api_name=f"turn_to_{card.slug}",
            queue=False,
            **quiet,
        )
        turned.then(None, None, None, js=FOCUS_BACK.format(slug=card.slug))
        turned.then(
            opening.opener(card, demo),
            None,
            [words, frame],
            api_name=f"open_{card.slug}",
            concurrency_limit=None,
            **quiet,
        )
    for button, function in ((back, opening.leave), (stop, opening.stop)):
        button.click(
            function,
            opened,
            [listing, stage, words, frame],
            api_name=function.__name__,
            concurrency_limit=None,
            **quiet,
        ).then(None, None, None, js=FOCUS_CARD)

if __name__ == "__main__":
    demo.serve()
