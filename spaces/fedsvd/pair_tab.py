# SPDX-License-Identifier: Apache-2.0
"""The finding about FedSVD, said in words, and a button that shows it."""

import time
from collections.abc import Iterator
from typing import Any

import controls
import gradio as gr
from names import QUEUED

from eigenhub.hub.space_events import PRIVATE
from eigenhub.hub.space_sessions import Session


FINDING = (
    "### What the SVD does, and what it does not\n"
    "The refactorisation only rotates the basis of A: its rows never leave the span that the first, random A has. Steps of SGD, "
    "clipped or not, commute with that rotation. So **under SGD, FedSVD is FFA-LoRA whose A was made orthonormal once**: the same "
    "product B A after every round, and under differential privacy the same in law. What it gains over FFA-LoRA with PEFT's "
    "initial A comes from the scale of A, whose rows are about √3 shorter there, not from the SVD. AdamW treats coordinates one "
    "by one, so it sees the rotation: there the two part, in either direction. See for yourself, with the settings above."
)


def build(chosen: controls.Controls, runs: gr.State) -> None:
    """Lay this part out and wire its events."""
    gr.Markdown(FINDING)
    with gr.Row():
        start = gr.Button("Run the pair", variant="primary", scale=0, min_width=180, elem_id="start-pair")
        stop = gr.Button("Stop", scale=0, min_width=110, elem_id="stop-pair")
    status = gr.Markdown(elem_id="pair-status")
    with gr.Row(equal_height=False):
        accuracy_plot = gr.Plot(show_label=False, min_width=320, visible=False, elem_id="pair-plot")
        distance_plot = gr.Plot(show_label=False, min_width=320, visible=False, elem_id="distance-plot")
    start.click(
        run,
        [runs, *chosen.inputs],
        [status, accuracy_plot, distance_plot, runs],
        api_name="run_pair",
        show_progress="hidden",
        trigger_mode="multiple",
        **PRIVATE,
        **QUEUED,
    )
    stop.click(Session.end, None, None, api_name="end_pair", queue=False, **PRIVATE)


def run(request: gr.Request, runs: list[dict], *values: Any) -> Iterator[tuple[Any, ...]]:
    """A sentence and two figures, again and again until the pair is over or stopped; both runs are kept."""
    from federate_tab import SECONDS_BETWEEN

    settings = controls.settings_of(values)
    with Session(request) as session:
        yield "Getting ready …", gr.skip(), gr.skip(), gr.skip()
        from computing import distance_figure, pair_figure, pair_sentence, run_pair

        due = 0.0
        for found in run_pair(settings):
            records = found["runs"]
            last = records[0]["finished"] or not session.goes_on
            sentence, plots, kept = pair_sentence(found, session.goes_on), [gr.skip(), gr.skip()], gr.skip()
            if last or time.monotonic() >= due:
                drawn = pair_figure(records), distance_figure(found["distance"], settings.rounds)
                plots = [gr.Plot(value=figure, visible=True) for figure in drawn]
                due = time.monotonic() + SECONDS_BETWEEN
            if last and found["distance"]:
                kept = [*runs, *records]
            yield sentence, *plots, kept
            if last:
                return
