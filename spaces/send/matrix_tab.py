# SPDX-License-Identifier: Apache-2.0
"""The tab for embeddings that a visitor has already."""

from typing import Any

import gradio as gr
from names import MAX_FEATURES, MAX_MATRIX, MAX_ROWS

from eigenhub.hub.space_events import PRIVATE, shown_to_visitor


INTRODUCTION = (
    "No model needed: give the hidden states of K answers to one prompt, a row each. The four conventions centre and scale "
    "differently, so their scores differ by more than any threshold. EES (arXiv 2410.15460) standardises every feature and has "
    "neither convention nor α; it is shown with its coefficients right."
)
EXAMPLE = "0.9, 0.1, 0.0, 0.2\n0.8, 0.2, 0.1, 0.2\n0.1, 0.9, 0.7, 0.0"


def build() -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        text = gr.Textbox(
            EXAMPLE, label="A row per answer, numbers between commas or spaces", lines=5, max_lines=12, min_width=320, scale=2,
            elem_id="matrix",
        )  # fmt: skip
        file = gr.File(
            label="Or .npy (not pickled) / .csv",
            file_types=[".npy", ".csv"],
            height=150,
            min_width=240,
            elem_id="matrix-file",
        )
    gr.Markdown(
        f"2 to {MAX_ROWS} rows of 2 to {MAX_FEATURES:,} numbers, up to {MAX_MATRIX // 2**20} MiB. A file comes before the text."
    )
    with gr.Row():
        button = gr.Button("Score the rows", variant="primary", scale=0, min_width=180, elem_id="score-matrix")
    with gr.Row(equal_height=False):
        plot = gr.Plot(show_label=False, min_width=320, elem_id="matrix-plot")
        with gr.Column(min_width=320):
            table = gr.HTML(elem_id="matrix-table", elem_classes="space-html")
    button.click(show, [text, file], [plot, table], api_name="show_matrix", show_progress_on=table, **PRIVATE)


def show(text: str, file: str | None) -> tuple[Any, ...]:
    """Scores and eigenvalues of a matrix."""
    from computing import read_matrix, scores_of, spectra_figure
    from reports import matrix_table

    with shown_to_visitor("This matrix cannot be scored"):
        found = scores_of(read_matrix(text, file))
    return spectra_figure(found), matrix_table(found)
