# SPDX-License-Identifier: Apache-2.0
"""The Space of the state space models: noise, transfer functions, pseudospectra, and a text at constant memory."""

import api
import generate_tab
import gradio as gr
import noise_tab
import pseudo_tab
import transfer_tab

from eigenhub.hub.space import Space
from eigenhub.hub.space_events import QUEUE


SENTENCE = (
    "State space models start from HiPPO, a matrix that cannot be diagonalised. Dropping a part of it, as S4D and S5 do, leaves "
    "resonances; perturbing it a little does not. See what that means for a digit under noise."
)

with Space("s5_ptd", "Perturb, then diagonalise", SENTENCE) as demo:
    with gr.Tabs():
        with gr.Tab("Noise"):
            noise_tab.build(demo)
        with gr.Tab("Transfer functions"):
            transfer_tab.build(demo)
        with gr.Tab("Pseudospectra"):
            pseudo_tab.build(demo)
        with gr.Tab("Write"):
            generate_tab.build()
    gr.api(api.transfer, api_name="transfer")
    gr.api(api.pseudospectrum, api_name="pseudospectrum")
    gr.api(api.generate, api_name="generate", **QUEUE)

if __name__ == "__main__":
    demo.serve()
