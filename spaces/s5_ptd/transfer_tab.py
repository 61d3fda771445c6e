# SPDX-License-Identifier: Apache-2.0
"""The tab with the transfer functions."""

from typing import Any

import api
import gradio as gr
from names import ORDERS

from eigenhub.hub.space import tiles
from eigenhub.hub.space_events import PRIVATE


INTRODUCTION = (
    "HiPPO's matrix A cannot be diagonalised in floating point, so S4D and S5 drop a part of rank one and keep the rest, "
    "S = A + P Pᵀ. Exactly, for every output, G_HiPPO = (1 + φ) G_S: the two agree at low frequencies and part at the "
    "resonances of S, the largest of which is near n²/π, with a gain of 2n²/π². A small perturbation that makes A + E "
    "diagonalisable has no such resonances; for E = τ P Pᵀ no gain exceeds 1/(1 − τ), whatever n and the frequency."
)


def build(demo: gr.Blocks) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    order = gr.Radio(list(ORDERS), value=32, label="Number of states n", elem_id="transfer-order")
    facts = gr.HTML(elem_id="transfer-facts", elem_classes="space-html", min_height=96)
    plot = gr.Plot(show_label=False, elem_id="transfer-plot")
    gr.on(
        [demo.load, order.input],
        show,
        order,
        [facts, plot],
        api_name="show_transfer",
        trigger_mode="always_last",
        show_progress="hidden",
        **PRIVATE,
    )


def show(order: int) -> tuple[str, Any]:
    """Tiles and the figure for one order."""
    from eigenhub.linalg.hippo import ptd_diagonalize

    found = api.transfer(order)
    from transfer_figure import transfer_figure

    largest, at = found["largest"], found["at"]
    info = ptd_diagonalize(int(order)).info
    facts = [
        ("Diagonal part", f"{largest['legs']:.4g} ×", f"louder than HiPPO at ω = {at['legs']:.1f}"),
        ("PTD, optimised", f"{largest['ptd']:.3f} ×", f"at most, at ω = {at['ptd']:.1f}"),
        ("PTD, low rank", f"{largest['lowrank']:.3f} ×", "at most"),
        ("Perturbation", f"{info['rel_frobenius']:.1%}", f"of A; eigenvectors with κ = {info['kappa']:.2f}"),
        ("Stability", f"{info['max_re']:.2f}", "largest real part of an eigenvalue of A + E"),
    ]
    return tiles(facts), transfer_figure(int(order))
