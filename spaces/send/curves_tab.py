# SPDX-License-Identifier: Apache-2.0
"""The tab on which an arm trains beside plain training."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from names import ARMS, EPOCHS, PERIODS, QUEUED, RHOS, SITES, TRAINING, WINDOWS
from settings import TrainSettings

from eigenhub.hub.space_events import PRIVATE
from eigenhub.hub.space_sessions import Session


INTRODUCTION = (
    "While a model is told new facts, answers that were right turn wrong and back again. **Sensitivity Dropout** (SenD) looks "
    "which of its embedding indices move most from epoch to epoch and drops them for a while. Here the embedded model, which "
    "knows 60 people, is told of 70 more, each fact in two of six forms, and asked in the other four: once by plain training, "
    "once by the arm of your choice. Both begin with the same weights and see the same rows in the same order."
)
CONTROLS = (
    "Random indices, dropout and averaged weights are the controls: what they do as well is no merit of SenD's choice. "
    "Averaged weights are cheap and have no ρ."
)
STUDY = "### Five seeds\nThe study behind this page: mean share of wrong answers over the seeds, with the deviation between them as a band."
#: Figures take about as long to draw as an epoch to train.
SECONDS_BETWEEN = 2.5


def build(demo: gr.Blocks, tab: gr.Tab) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    inputs = _controls()
    with gr.Row():
        start = gr.Button("Train both", variant="primary", scale=0, min_width=160, elem_id="start")
        stop = gr.Button("Stop", scale=0, min_width=110, elem_id="stop")
    status = gr.Markdown("Nothing is running. Twelve epochs of both take about half a minute.", elem_id="run-status")
    with gr.Row(equal_height=False):
        shares = gr.Plot(show_label=False, min_width=320, elem_id="shares-plot")
        flips = gr.Plot(show_label=False, min_width=320, elem_id="flips-plot")
    dropped = gr.Plot(show_label=False, visible=False, elem_id="dropped-plot")
    table = gr.HTML(elem_id="run-table", elem_classes="space-html")
    gr.Markdown(
        "Shaded: epochs that the arm trained with indices dropped. A flip is an answer that became right or ceased to be. "
        "Averaged weights are asked in place of the latest ones.",
        elem_id="run-legend",
    )
    words = gr.Markdown(STUDY, visible=False)
    study = gr.Plot(show_label=False, visible=False, elem_id="study-plot")
    start.click(
        run,
        inputs,
        [status, shares, flips, dropped, table],
        api_name="run_training",
        show_progress="hidden",
        **PRIVATE,
        **QUEUED,
    )
    stop.click(Session.ender(TRAINING), None, None, api_name="end_training", queue=False, **PRIVATE)
    demo.unload(Session.end)
    tab.select(show_study, None, [words, study], api_name="show_study", show_progress="hidden", **PRIVATE)


def _controls() -> list[Any]:
    """In the order of the fields of `TrainSettings`."""
    with gr.Row():
        mode = gr.Dropdown(
            [(label, name) for name, label in ARMS.items()],
            value="send",
            label="Arm",
            info="Against plain training",
            min_width=260,
            elem_id="arm",
        )
        site = gr.Dropdown(
            [(label, name) for name, label in SITES.items()],
            value="hidden",
            label="Site",
            info="Of the last block but one",
            min_width=220,
            elem_id="site",
        )
        epochs = gr.Slider(*EPOCHS, value=12, step=1, label="Epochs", min_width=200, elem_id="epochs")
    with gr.Row():
        rho = gr.Slider(*RHOS, value=0.2, step=0.05, label="ρ, share dropped", min_width=180, elem_id="rho")
        window = gr.Slider(*WINDOWS, value=3, step=1, label="C, epochs looked at", min_width=180, elem_id="window")
        period = gr.Slider(*PERIODS, value=3, step=1, label="T, epochs of a mask", min_width=180, elem_id="period")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=180, elem_id="run-seed")
    masked = gr.Checkbox(
        False,
        label="Ask with the mask on",
        info="The paper does not say; the authors' code does so",
        elem_id="mask-in-eval",
    )
    gr.Markdown(CONTROLS)
    return [mode, rho, site, window, period, epochs, masked, seed]


def run(request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
    """Everything that is shown, again and again until both runs are over or stopped."""
    settings = TrainSettings(*values)
    with Session(request, TRAINING) as session:
        yield (
            "Getting ready. The very first time the embedded model is trained, in about a minute and a half …",
            *[gr.skip()] * 4,
        )
        from computing import train_pair

        due = 0.0
        for pair in train_pair(settings):
            is_over = pair["finished"] or not session.goes_on
            draws = is_over or time.monotonic() >= due
            yield told(pair, session.goes_on, draws)
            if draws:
                due = time.monotonic() + SECONDS_BETWEEN
            if is_over:
                return


def told(pair: dict, goes_on: bool, draws: bool) -> tuple[Any, ...]:
    """Words, figures and table of both runs so far."""
    from computing import dropped_figure, flips_figure, shares_figure
    from run_reports import training_table, training_words

    words, done = training_words(pair, goes_on), bool(pair["epoch"])
    if not draws:
        return words, gr.skip(), gr.skip(), gr.skip(), gr.skip()
    grid = dropped_figure(pair["arm"])
    return (
        words,
        shares_figure(pair),
        flips_figure(pair),
        gr.Plot(value=grid, visible=grid is not None),
        training_table(pair) if done else "",
    )


def show_study() -> tuple[Any, Any]:
    """The study's curves, where they are at hand."""
    from computing import read_study, study_figure

    figure = study_figure(read_study())
    return gr.Markdown(visible=figure is not None), gr.Plot(value=figure, visible=figure is not None)
