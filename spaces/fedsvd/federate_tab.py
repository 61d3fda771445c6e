# SPDX-License-Identifier: Apache-2.0
"""The tab on which clients train together, with everything that can be watched meanwhile."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import controls
import gradio as gr
from names import QUEUED

from eigenhub.hub.space_events import PRIVATE
from eigenhub.hub.space_sessions import Session


INTRODUCTION = (
    "A small ViT has learned digits that lie on their side. Clients with upright digits of their own teach it to read those, "
    "**without handing a single image over**: each trains a LoRA adapter, a server averages. Choose how different the clients "
    "are, how the server averages and what privacy costs, then start."
)
LAYERS = ("layer 0, q_proj", "layer 0, v_proj", "layer 1, q_proj", "layer 1, v_proj")
#: Figures take longer to draw than a round to train.
SECONDS_BETWEEN = 2.5


def build(demo: gr.Blocks, runs: gr.State) -> controls.Controls:
    """Lay the tab out and wire its events; the controls also serve the pair below."""
    gr.Markdown(INTRODUCTION)
    chosen = controls.build()
    with gr.Row():
        start = gr.Button("Start", variant="primary", scale=0, min_width=140, elem_id="start")
        stop = gr.Button("Stop", scale=0, min_width=110, elem_id="stop")
    status = gr.Markdown("Nothing is running.", elem_id="run-status")
    summary = gr.HTML(elem_id="run-summary", elem_classes="space-html")
    with gr.Row(equal_height=False):
        split_plot = gr.Plot(show_label=False, min_width=320, elem_id="split-plot")
        accuracy_plot = gr.Plot(show_label=False, min_width=320, elem_id="accuracy-plot")
    privacy = gr.Markdown(elem_id="privacy")
    with gr.Row(equal_height=False):
        singular_plot = gr.Plot(show_label=False, min_width=320, elem_id="singular-plot")
        bytes_plot = gr.Plot(show_label=False, min_width=320, elem_id="bytes-plot")
    layer = gr.Radio(list(LAYERS), value=LAYERS[0], label="Singular values of", elem_id="layer")
    with gr.Row(equal_height=False):
        epsilon_plot = gr.Plot(show_label=False, min_width=320, visible=False, elem_id="epsilon-plot")
        files = gr.File(
            label="The adapter, a stock LoRA for PEFT", file_count="multiple", visible=False, elem_id="files"
        )
    last = gr.State()

    figures = [accuracy_plot, singular_plot, bytes_plot, epsilon_plot]
    gr.on(
        [demo.load, chosen.clients.release, chosen.exponent.release, chosen.seed.change],
        show_split,
        [chosen.clients, chosen.exponent, chosen.seed],
        split_plot,
        api_name="show_split",
        show_progress_on=split_plot,
        **PRIVATE,
    )
    start.click(
        run,
        [runs, layer, *chosen.inputs],
        [status, summary, privacy, split_plot, *figures, files, last, runs],
        api_name="run",
        show_progress="hidden",
        trigger_mode="multiple",
        **PRIVATE,
        **QUEUED,
    )
    layer.input(show_layer, [last, layer], singular_plot, api_name="show_layer", show_progress="hidden", **PRIVATE)
    stop.click(Session.end, None, None, api_name="end_run", queue=False, **PRIVATE)
    demo.unload(Session.end)
    return chosen


def show_split(clients: int, exponent: float, seed: int) -> Any:
    """The digits of each client, before anything is trained."""
    import api
    from computing import split_figure

    alpha = 10**exponent
    return split_figure(api.split(clients, alpha, seed), alpha)


def run(request: gr.Request, runs: list[dict], layer: str, *values: Any) -> Iterator[tuple[Any, ...]]:
    """Everything that is shown, again and again until the run is over or stopped."""
    settings = controls.settings_of(values)
    with Session(request) as session:
        yield "Getting ready …", *[gr.skip()] * 10
        from computing import federate

        due = 0.0
        for record in federate(settings):
            last = record["finished"] or not session.goes_on
            draws = last or time.monotonic() >= due
            yield shown(record, layer, runs, draws, session.goes_on)
            if draws:
                due = time.monotonic() + SECONDS_BETWEEN
            if last:
                return


def shown(record: dict, layer: str, runs: Sequence[dict], draws: bool, goes_on: bool) -> tuple[Any, ...]:
    """What all parts of the page show of a record; a run that is over is kept for the comparison."""
    from computing import privacy_words, progress_sentence, run_tiles, split_figure

    settings, is_over = record["settings"], record["finished"] or not goes_on
    keeps = is_over and record["participants"]
    return (
        progress_sentence(record, goes_on),
        run_tiles(record),
        privacy_words(record),
        # sliders may have been moved since; this is the split of the run
        gr.skip() if record["participants"] else split_figure(record["class_counts"], settings["alpha"]),
        *(figures(record, layer) if draws else [gr.skip()] * 4),
        gr.File(value=record["files"] or None, interactive=False, visible=bool(record["files"])),
        record if is_over else gr.skip(),
        [*runs, record] if keeps else gr.skip(),
    )


def figures(record: dict, layer: str) -> list[Any]:
    """Accuracy, singular values, bytes and epsilon."""
    from computing import accuracy_figure, bytes_figure, epsilon_figure, singular_figure

    spent = epsilon_figure(record)
    return [
        accuracy_figure(record),
        singular_figure(record, layer),
        bytes_figure(record),
        gr.Plot(value=spent, visible=spent is not None),
    ]


def show_layer(record: dict | None, layer: str) -> Any:
    """The singular values of another layer of the last run."""
    from computing import singular_figure

    return gr.skip() if record is None else singular_figure(record, layer)
