# SPDX-License-Identifier: Apache-2.0
"""The part of the page that sets a threshold, and says when it no longer fits."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from controls import Controls, settings_of
from names import (
    CALIBRATED_ON,
    CALIBRATING,
    JUDGES,
    KINDS,
    MAX_PROMPTS,
    MIN_PROMPTS,
    MODELS,
    QUANTILES,
    QUESTIONS,
    THRESHOLDS,
    YOUDEN,
)

from eigenhub.hub.space_events import MODEL, PRIVATE
from eigenhub.hub.space_sessions import Session


INTRODUCTION = (
    "### The threshold\n"
    "A threshold holds for one model, layer, convention, K and way of sampling. Change any of them and the page withholds its "
    "verdict until you calibrate again."
)
PASTED = "Capital of France? The capital of France is => Paris\nWho wrote Faust? Faust was written by => Goethe | Johann Wolfgang von Goethe"


def build(demo: gr.Blocks, chosen: Controls, threshold: gr.State) -> tuple[Any, Any]:
    """
    Lay this part out and wire its events.

    Returns:
        the event that sets a threshold, and the one that sets the first of all.
    """
    gr.Markdown(INTRODUCTION)
    with gr.Row() as world:
        count = gr.Slider(*QUESTIONS, value=240, step=20, label="Questions", min_width=200, elem_id="questions")
        kinds = gr.CheckboxGroup(
            [(label, name) for name, label in KINDS.items()],
            value=CALIBRATED_ON,
            label="About, in equal parts",
            min_width=320,
            scale=2,
            elem_id="kinds",
        )
    with gr.Row(visible=False) as own:
        text = gr.Textbox(
            label=f"{MIN_PROMPTS} to {MAX_PROMPTS} prompts, one per line; right answers, if you know them, behind =>",
            placeholder=PASTED,
            lines=6,
            max_lines=12,
            min_width=320,
            scale=2,
            elem_id="own-prompts",
        )
        with gr.Column(min_width=260):
            file = gr.File(
                label="Or .jsonl / .csv with prompt and answer",
                file_types=[".jsonl", ".csv"],
                height=110,
                elem_id="own-file",
            )
            judge = gr.Dropdown(
                [(label, name) for name, label in JUDGES.items()],
                value="contains",
                label="An answer is right if it …",
                elem_id="judge",
            )
    with gr.Row():
        by = gr.Radio(
            [(label, name) for name, label in THRESHOLDS.items()],
            value=YOUDEN,
            label="Threshold by",
            min_width=320,
            scale=2,
            elem_id="threshold-by",
        )
        share = gr.Slider(*QUANTILES, value=0.8, step=0.01, label="Quantile", min_width=200, elem_id="quantile")
    with gr.Row():
        start = gr.Button("Calibrate", variant="primary", scale=0, min_width=160, elem_id="calibrate")
        stop = gr.Button("Stop", scale=0, min_width=110, elem_id="stop-calibration")
    status = gr.Markdown("No threshold yet: calibrate first.", elem_id="calibration-status")
    with gr.Row(equal_height=False):
        histogram = gr.Plot(show_label=False, min_width=320, elem_id="histogram-plot")
        roc = gr.Plot(show_label=False, min_width=320, visible=False, elem_id="roc-plot")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            areas = gr.HTML(elem_id="auroc-table", elem_classes="space-html")
        with gr.Column(min_width=320):
            rows = gr.HTML(elem_id="scored-table", elem_classes="space-html")
    files = gr.File(
        label="All scores, and the threshold with its settings",
        file_count="multiple",
        visible=False,
        elem_id="scored-files",
    )

    shown = [threshold, histogram, roc, areas, rows, files]
    inputs = [count, kinds, text, file, by, share, judge, *chosen.inputs]
    waiting: dict[str, Any] = {"show_progress_on": status, **PRIVATE, **MODEL}
    first = demo.load(begin, [threshold, *chosen.inputs], [status, *shown], api_name="begin_calibration", **waiting)
    again = start.click(
        run, inputs, [status, *shown], api_name="run_calibration", show_progress="hidden", **PRIVATE, **MODEL
    )
    stop.click(Session.ender(CALIBRATING), None, None, api_name="end_calibration", queue=False, **PRIVATE)
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, **PRIVATE}
    gr.on(
        [component.change for component in chosen.inputs],
        fit,
        [threshold, *chosen.inputs],
        status,
        api_name="fit",
        trigger_mode="always_last",
        **quiet,
    )
    chosen.model.change(
        lambda model: (gr.Row(visible=model in MODELS), gr.Row(visible=model not in MODELS)),
        chosen.model,
        [world, own],
        api_name="offer_prompts",
        **quiet,
    )
    return again, first


def begin(
    threshold: dict | None,
    *values: Any,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """The threshold of the page's defaults, set before anybody asks."""
    settings = settings_of(values)
    if threshold is not None or not settings.is_embedded:
        return tuple([gr.skip()] * 7)
    from computing import calibrated_world

    return told(calibrated_world(settings))


def run(
    request: gr.Request,
    count: int,
    kinds: list[str],
    text: str,
    file: str | None,
    by: str,
    share: float,
    judge: str,
    *values: Any,
) -> Iterator[tuple[Any, ...]]:
    """How far it is, again and again, and the threshold at the end."""
    settings = settings_of(values)
    unchanged = [gr.skip()] * 6
    with Session(request, CALIBRATING) as session:
        yield "Getting ready …", *unchanged
        from computing import calibrate, prompts_of

        given = prompts_of(settings, count, kinds, text, file)
        found = None
        for done, found in calibrate(settings, given, by, share, judge, lambda: session.goes_on):
            if found is None:
                yield f"Scored {done} of {len(given.prompts)} prompts …", *unchanged
        yield told(found) if found else ("Stopped: the threshold is what it was.", *unchanged)


def told(found: dict) -> tuple[Any, ...]:
    """Words, figures, tables and files of a threshold."""
    from computing import histogram_figure, roc_figure, write_files
    from reports import auroc_table, calibration_words, scored_rows

    curve = roc_figure(found)
    return (
        calibration_words(found),
        found,
        histogram_figure(found),
        gr.Plot(value=curve, visible=curve is not None),
        auroc_table(found),
        scored_rows(found),
        gr.File(value=write_files(found), visible=True, interactive=False),
    )


def fit(threshold: dict | None, *values: Any) -> str:
    """Whether the threshold still belongs to what is chosen."""
    from reports import calibration_words
    from settings import differences

    if threshold is None:
        return calibration_words(None)
    try:
        chosen = settings_of(values).to_dict()
    except gr.Error as error:  # a number that is being typed
        return calibration_words(threshold, [str(error.message)])
    return calibration_words(threshold, differences(chosen, threshold["settings"]))
