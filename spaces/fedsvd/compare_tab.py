# SPDX-License-Identifier: Apache-2.0
"""The tab that lays all runs of this visit side by side."""

from typing import Any

import gradio as gr

from eigenhub.hub.space_events import PRIVATE


INTRODUCTION = (
    "Every run of this visit, those that were stopped among them; nobody else sees them, and they are gone when the page is. One "
    "seed says little: on these 597 test digits, differences of two or three points come and go with the seed."
)
NOTHING = "No run yet: start one on the first tab."
OVER = {"rounds": "rounds", "bytes": "what the clients have sent"}


def build(runs: gr.State) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        over = gr.Radio(
            [(label, name) for name, label in OVER.items()],
            value="rounds",
            label="Accuracy over",
            min_width=260,
            elem_id="over",
        )
        forget = gr.Button("Forget all runs", scale=0, min_width=160, elem_classes="space-low", elem_id="forget")
    status = gr.Markdown(NOTHING, elem_id="compare-status")
    plot = gr.Plot(show_label=False, min_width=320, visible=False, elem_id="compare-plot")
    table = gr.HTML(elem_id="compare-table", elem_classes="space-html")
    gr.on(
        [runs.change, over.input],
        show,
        [runs, over],
        [status, plot, table],
        api_name="show_comparison",
        show_progress="hidden",
        **PRIVATE,
    )
    forget.click(list, None, runs, api_name="forget", queue=False, **PRIVATE)


def show(runs: list[dict], over: str) -> tuple[Any, ...]:
    """Curves and table of all runs."""
    if not runs:
        return NOTHING, gr.Plot(value=None, visible=False), ""
    from computing import comparison_figure, comparison_table

    count = f"{len(runs)} runs." if len(runs) > 1 else "One run: make another to compare."
    return count, gr.Plot(value=comparison_figure(runs, over), visible=True), comparison_table(runs)
