# SPDX-License-Identifier: Apache-2.0
"""The tab that compares bases on one matrix."""

from typing import Any

import gradio as gr
from names import BASES, MODELS, MOMENTS, NORMS, SIDES, TRAINED

from eigenhub.hub.space import html_table, tiles
from eigenhub.hub.space_controls import pick_or_type
from eigenhub.hub.space_events import BUTTON, MODEL, PRIVATE


INTRODUCTION = (
    "Low-rank optimizers keep r of n directions of every matrix. GaLore finds them by an SVD and stores them; DCT-AdamW and "
    "Trion choose r cosines out of n, which costs an FFT and the memory of r indices. How much do they lose? The shaded "
    "band is what random orthogonal bases hold: hidden units have no natural order, and **in small models the cosines are "
    "no better aligned with weights or gradients than chance**. What they save is the decomposition and the stored projector."
)
HEADERS = ("basis", "r = n/16", "n/8", "n/4", "n/2", "r for 90 %")


def build(demo: gr.Blocks) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        model = pick_or_type(MODELS, TRAINED, "Model", elem_id="model")
        matrix = gr.Dropdown(
            [], label="Matrix", info="A weight of a linear layer", min_width=260, scale=3, elem_id="matrix"
        )
        button = gr.Button("Measure", elem_id="measure", **BUTTON)
    with gr.Row():
        moment = gr.Radio(_choices(MOMENTS), value="gradient", label="Look at its", min_width=250, elem_id="moment")
        side = gr.Radio(_choices(SIDES), value="auto", label="Project", min_width=250, elem_id="side")
        norm = gr.Radio(list(NORMS.items()), value=1, label="Choose directions by", min_width=250, elem_id="norm")
    share = gr.Slider(1, 100, value=25, step=1, label="r as a share of n, in %", elem_id="share")
    summary = gr.HTML(
        "<p>Loading the embedded model. The very first time it is trained here, in about half a minute.</p>",
        elem_id="energy-summary",
        elem_classes="space-html",
        min_height=96,
    )
    sentence = gr.Markdown(elem_id="energy-verdict")
    with gr.Row(equal_height=False):
        plot = gr.Plot(show_label=False, min_width=320, elem_id="energy-plot")
        table = gr.HTML(min_width=320, elem_id="energy-table", elem_classes="space-html")

    inputs = [model, matrix, moment, side, norm, share]
    triggers = [
        demo.load,
        button.click,
        model.input,
        matrix.input,
        moment.input,
        side.input,
        norm.input,
        share.release,
    ]
    gr.on(
        triggers,
        show,
        inputs,
        [matrix, summary, sentence, plot, table],
        api_name="show_energy",
        show_progress_on=[summary, plot],
        **PRIVATE,
        **MODEL,
    )


def _choices(names: dict[str, str]) -> list[tuple[str, str]]:
    return [(label, name) for name, label in names.items()]


def show(
    model: str,
    matrix: str | None,
    moment: str,
    side: str,
    norm: int,
    share: float,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """The curves of one matrix; a matrix of the model before gives way to the first one of this model."""
    from computing import BASIS_COLORS, energy_figure, load_model, measure, rank_of, table, verdict

    names = list(load_model(model).matrices)
    found = measure(model, matrix if matrix in names else None, moment, side, int(norm))
    captured = found.captured
    rank = rank_of(share / 100, captured.width)
    held = {BASES[kind]: f"{curve[rank - 1].item():.1%}" for kind, curve in captured.curves.items()}
    shape = " x ".join(map(str, found.shape))
    facts = [(label, figure, f"in r = {rank} of {captured.width}") for label, figure in held.items()]
    return (
        gr.Dropdown(choices=names, value=found.matrix, info=f"{shape}, one of {len(names)} weights of linear layers"),
        tiles(facts),
        verdict(captured, rank),
        energy_figure(captured, rank),
        html_table(HEADERS, table(captured), [BASIS_COLORS[kind] for kind in captured.curves]),
    )
