# SPDX-License-Identifier: Apache-2.0
"""The Space of the optimizers without SVD: what cosines capture, a race, memory, and AuON's brake."""

import api
import brake_tab
import energy_tab
import gradio as gr
import memory_tab
import race_tab

from eigenhub.hub.space import Space
from eigenhub.hub.space_events import QUEUE


SENTENCE = (
    "DCT-AdamW and Trion train matrices in a few directions chosen among cosines, with no decomposition and nothing to store; "
    "AuON divides momentum by a number. See what that captures, how it trains, and what memory it takes."
)

with Space("dct", "Optimizers without SVD", SENTENCE) as demo:
    with gr.Tabs():
        with gr.Tab("Energy"):
            energy_tab.build(demo)
        with gr.Tab("Race"):
            race_tab.build()
        with gr.Tab("Memory"):
            memory_tab.build(demo)
        with gr.Tab("AuON"):
            brake_tab.build(demo)
    gr.api(api.energy, api_name="energy", **QUEUE)
    gr.api(api.race, api_name="race", **race_tab.RACE)
    gr.api(api.memory, api_name="memory")
    gr.api(api.check_memory, api_name="check_memory", **QUEUE)
    gr.api(api.brake, api_name="brake")

if __name__ == "__main__":
    demo.serve()
