# SPDX-License-Identifier: Apache-2.0
"""The Space of federated LoRA: clients that train together, their runs side by side, and the server's step on any adapter."""

import api
import compare_tab
import federate_tab
import gradio as gr
import pair_tab
import refactor_tab
from names import QUEUED

from eigenhub.hub.space import Space
from eigenhub.hub.space_events import QUEUE


SENTENCE = (
    "Clients that keep their data train one LoRA adapter together; FedSVD averages B and refactors the product. Watch accuracy, "
    "privacy and bytes for eight methods, and see what the SVD does and what it does not."
)

with Space("fedsvd", "Federated LoRA, counted honestly", SENTENCE) as demo:
    runs = gr.State([])
    with gr.Tabs():
        with gr.Tab("Train together"):
            chosen = federate_tab.build(demo, runs)
            pair_tab.build(chosen, runs)
        with gr.Tab("Compare runs"):
            compare_tab.build(runs)
        with gr.Tab("Refactor") as tab:
            refactor_tab.build(tab, runs)
    gr.api(api.federate, api_name="federate", **QUEUED)
    gr.api(api.pair, api_name="pair", **QUEUED)
    gr.api(api.split, api_name="split")
    gr.api(api.inspect, api_name="inspect", **QUEUE)

if __name__ == "__main__":
    demo.serve()
