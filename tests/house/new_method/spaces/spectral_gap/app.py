# SPDX-License-Identifier: Apache-2.0
"""The Space of the spectral gap."""

import gradio as gr
import torch

from eigenhub.hub.space import Space, on_gpu
from eigenhub.metrics.spectral_gap import spectral_gap


@on_gpu
def gap(second: float) -> float:
    """The gap of diag(1, second)."""
    return float(spectral_gap(torch.diag(torch.tensor([1.0, second]))))


with Space("spectral_gap", "The gap", "How far the largest singular value stands out.") as demo:
    slider = gr.Slider(0, 1, 0.5, label="Second singular value")
    slider.release(gap, slider, gr.Number(label="Gap"), api_name="gap")

if __name__ == "__main__":
    demo.serve()
