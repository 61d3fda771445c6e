# SPDX-License-Identifier: Apache-2.0
"""The tab about AuON's brake."""

from typing import Any

import api
import gradio as gr
from names import MATRICES

from eigenhub.hub.space import tiles
from eigenhub.hub.space_events import PRIVATE


INTRODUCTION = (
    "AuON ([arXiv 2509.24320](https://arxiv.org/abs/2509.24320)) divides the momentum of a matrix by its norm and by one more "
    "number, the brake: the root mean square of cosh(γ X) over the normalised entries. The published γ is 1.5 or 1. It cannot "
    "depend on the scale of the momentum and hardly on its shape, so for real weights **the brake is one**, and singular "
    "values keep their ratios. What Newton–Schulz iterations add is Muon's doing."
)


def build(demo: gr.Blocks) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        gamma = gr.Slider(0, 40, value=1.5, step=0.1, label="γ", min_width=220, elem_id="gamma")
        rows = gr.Slider(1, 512, value=64, step=1, label="Rows", min_width=220, elem_id="rows")
        columns = gr.Slider(1, 512, value=64, step=1, label="Columns", min_width=220, elem_id="columns")
    matrix = gr.Radio(
        [(label, name) for name, label in MATRICES.items()],
        value="ill_conditioned",
        label="Momentum",
        elem_id="momentum",
    )
    summary = gr.HTML(elem_id="brake-summary", elem_classes="space-html", min_height=96)
    with gr.Row():
        singular_plot = gr.Plot(show_label=False, min_width=320, elem_id="singular-plot")
        brake_plot = gr.Plot(show_label=False, min_width=320, elem_id="brake-plot")
    gr.Markdown(
        "Each curve is one step of the real optimizer from zero, at learning rate one and without its factor for the shape; k is "
        "the number of Newton–Schulz iterations. An orthogonal update would have all singular values at one. PyTorch's Muon "
        "iterates in bfloat16, which shows at the smallest ones."
    )
    inputs = [gamma, rows, columns, matrix]
    gr.on(
        [demo.load, *(component.input for component in inputs)],
        show,
        inputs,
        [summary, singular_plot, brake_plot],
        api_name="show_brake",
        show_progress="hidden",
        trigger_mode="always_last",
        **PRIVATE,
    )


def show(gamma: float, rows: int, columns: int, matrix: str) -> tuple[Any, ...]:
    """Tiles and figures for one matrix."""
    from computing import brake_figure, singular_figure

    found = api.braking_of(gamma, rows, columns, matrix)
    longest = {name: values[0].item() for name, values in found.values.items()}
    facts = [
        ("Brake", f"1 + {found.rho - 1:.2g}", f"between 1 + {found.lowest - 1:.2g} and 1 + {found.highest - 1:.2g}"),
        ("The step is shorter by", f"{1 - 1 / found.rho:.2g}", "of its length, by the brake alone"),
        ("AuON", condition(found.values["AuON"]), f"condition number; {condition(found.values['momentum'])} before"),
        ("Hybrid, 1 iteration", condition(found.values["Hybrid AuON, k = 1"]), "condition number"),
        (
            "Hybrid, 5 iterations",
            condition(found.values["Hybrid AuON, k = 5"]),
            f"condition; largest {longest['Hybrid AuON, k = 5']:.2f}",
        ),
    ]
    return tiles(facts), singular_figure(found), brake_figure(float(gamma), int(rows) * int(columns), found.rho)


def condition(values: Any) -> str:
    """Largest over smallest singular value."""
    smallest = values[-1].item()
    if smallest <= 1e-7 * values[0].item():
        return "∞"
    ratio = values[0].item() / smallest
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
