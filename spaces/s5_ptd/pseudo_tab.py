# SPDX-License-Identifier: Apache-2.0
"""The tab with the pseudospectra."""

from typing import Any

import api
import gradio as gr
from names import MATRICES

from eigenhub.hub.space import tiles
from eigenhub.hub.space_events import PRIVATE


ORDERS = (8, 16, 32)
INTRODUCTION = (
    "Why not diagonalise HiPPO itself? Its eigenvalues are −1, …, −n, but they answer to changes far below rounding: inside of "
    "the curve of level 10⁻ᵏ every point is an eigenvalue of some matrix that differs from A by 10⁻ᵏ. The dots are "
    "the eigenvalues. Perturbing A on purpose, a little, puts the eigenvalues where they stay."
)


def build(demo: gr.Blocks) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        order = gr.Radio(list(ORDERS), value=16, label="Number of states n", min_width=220, elem_id="pseudo-order")
        matrix = gr.Radio(
            [(label, name) for name, label in MATRICES.items() if name != "hippo"],
            value="ptd",
            label="Beside HiPPO",
            min_width=300,
            elem_id="pseudo-matrix",
        )
    facts = gr.HTML(elem_id="pseudo-facts", elem_classes="space-html", min_height=96)
    with gr.Row():
        plots = [gr.Plot(show_label=False, min_width=300, elem_id=f"pseudo-plot-{side}") for side in ("a", "b")]
    gr.on(
        [demo.load, order.input, matrix.input],
        show,
        [order, matrix],
        [facts, *plots],
        api_name="show_pseudospectrum",
        trigger_mode="always_last",
        show_progress="hidden",
        **PRIVATE,
    )


def show(order: int, matrix: str) -> tuple[str, Any, Any]:
    """Tiles, HiPPO's pseudospectrum, and that of the chosen matrix."""
    from pseudo_figure import pseudospectrum_figure

    exact, other = (api.pseudospectrum(name, order) for name in ("hippo", matrix))
    facts = [
        ("κ of HiPPO", condition(exact["kappa"]), "condition number of the computed eigenvectors"),
        ("κ beside it", condition(other["kappa"]), MATRICES[matrix]),
        ("Stability", f"{max(value[0] for value in other['eigenvalues']):.2f}", "largest real part beside it"),
    ]
    return tiles(facts), pseudospectrum_figure("hippo", int(order)), pseudospectrum_figure(matrix, int(order))


def condition(kappa: float | None) -> str:
    """A condition number as it is read."""
    if kappa is None:
        return "∞"
    return f"{kappa:.3g}" if kappa < 1e4 else f"{kappa:.0e}"
