# SPDX-License-Identifier: Apache-2.0
"""The Space of SenD and EigenScore: a score of any prompt with its own threshold, and SenD beside plain training."""

import api
import curves_tab
import gradio as gr
import matrix_tab
import score_tab
from names import QUEUED

from eigenhub.hub.space import Space
from eigenhub.hub.space_events import QUEUE


SENTENCE = (
    "Score how much a model's own answers disagree inside, against a threshold calibrated for it. And train with the most restless "
    "embedding indices dropped, beside plain training, to see whether that helps."
)

with Space("send", "Does the model know, or make it up?", SENTENCE) as demo:
    with gr.Tabs():
        with gr.Tab("Score a prompt"):
            score_tab.build(demo)
        with gr.Tab("Training") as curves:
            curves_tab.build(demo, curves)
        with gr.Tab("Embeddings"):
            matrix_tab.build()
    gr.api(api.score, api_name="score", **QUEUE)
    gr.api(api.calibrate, api_name="calibrate", **QUEUE)
    gr.api(api.train, api_name="train", concurrency_id=QUEUED["concurrency_id"], concurrency_limit=1)
    gr.api(api.embeddings, api_name="embeddings")

if __name__ == "__main__":
    demo.serve()
