# SPDX-License-Identifier: Apache-2.0
"""What is laid out on the first tab, in the order in which it is read."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from names import BASES, EDITS, MAX_DIRECTIONS, MODELS, NOISE_MODES, OTHERS, SHAPES, SHAPES_BEFORE

from eigenhub.hub.space_controls import LiveSlider, pick_or_type, thumbnails
from eigenhub.hub.space_events import BUTTON


WAIT = "<p>Loading the embedded generator.</p>"
PICTURE: dict[str, Any] = {
    "type": "pil",
    "format": "png",
    "image_mode": None,
    "interactive": False,
    "buttons": ["download", "fullscreen"],
}


@dataclass
class Sample:
    """Components that choose a sample."""

    model: gr.Dropdown
    other: gr.Dropdown
    load: gr.Button
    summary: gr.HTML
    gallery: gr.Gallery
    number: gr.State
    first: gr.Number
    more: gr.Button
    psi: gr.Slider
    noise: gr.Radio
    label: gr.Number


@dataclass
class Place:
    """Components that choose directions."""

    layer: gr.Dropdown
    basis: gr.Dropdown
    edit: gr.Radio


def build_sample() -> Sample:
    """Generator, gallery and how samples are drawn."""
    with gr.Row():
        model = pick_or_type(
            MODELS,
            SHAPES,
            "Generator",
            info="Pick one, or type a Hub id or folder of a converted StyleGAN2",
            elem_id="model",
        )
        other = pick_or_type(
            OTHERS,
            SHAPES_BEFORE,
            "The same before projection",
            info="for SeFa and the aligned basis; Hub id or folder",
            min_width=240,
            scale=2,
            elem_id="other",
        )
        load = gr.Button("Load", elem_id="load", **BUTTON)
    summary = gr.HTML(WAIT, elem_id="summary", elem_classes="space-html", min_height=96)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            gr.Markdown("**1. Click a sample.**")
            gallery = thumbnails(label="Samples", columns=6, elem_id="samples")
        with gr.Column(scale=2, min_width=280):
            with gr.Row():
                first = gr.Number(0, label="First sample", precision=0, minimum=0, min_width=110, elem_id="first")
                more = gr.Button("Next twelve", elem_id="more", elem_classes="space-low", min_width=120)
                label = gr.Number(
                    0, label="Class", precision=0, minimum=0, min_width=90, visible=False, elem_id="label"
                )
            psi = gr.Slider(0, 1, value=0.7, step=0.05, label="Truncation ψ", elem_id="psi")
            noise = gr.Radio(
                [(text, mode) for mode, text in NOISE_MODES.items()], value="const", label="Noise", elem_id="noise"
            )
    return Sample(model, other, load, summary, gallery, gr.State(0), first, more, psi, noise, label)


def build_place() -> Place:
    """Layer, basis and kind of edit."""
    gr.Markdown("**2. Choose a layer or several, and which of their directions.**")
    with gr.Row():
        # Custom values are allowed because menus change: gradio would refuse events that were sent with an old choice.
        layer = gr.Dropdown(
            [],
            allow_custom_value=True,
            label="Layer",
            info="low resolutions place, high ones paint; ranges come last",
            min_width=240,
            scale=2,
            elem_id="layer",
        )
        basis = gr.Dropdown(
            [(text, name) for name, text in BASES.items() if name == "parameter"],
            allow_custom_value=True,
            label="Basis",
            info="one span, several bases of it",
            min_width=240,
            scale=2,
            elem_id="basis",
        )
        edit = gr.Radio(
            [(text, name) for name, text in EDITS.items()],
            value="ws",
            label="What moves",
            min_width=260,
            scale=2,
            elem_id="edit",
        )
    return Place(layer, basis, edit)


@dataclass
class Sliders:
    """The tab with the sliders."""

    before: gr.Image
    after: gr.Image
    reset: gr.Button
    keep: gr.Button
    undo: gr.Button
    status: gr.Markdown
    sliders: list[gr.Slider]


def build_sliders() -> Sliders:
    """Before, after, and a slider for each direction."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            with gr.Row(elem_classes="pair"):
                before = gr.Image(label="Before", min_width=120, elem_id="before", **PICTURE)
                after = gr.Image(label="After", min_width=120, elem_id="after", **PICTURE)
            with gr.Row():
                reset = gr.Button("Reset", min_width=60, elem_id="reset")
                keep = gr.Button("Keep", min_width=60, elem_id="keep")
                undo = gr.Button("Undo all", min_width=60, elem_id="undo")
            status = gr.Markdown(elem_id="edits")
        with gr.Column(scale=1, min_width=300, elem_classes="sliders"):
            gr.Markdown(
                "Percentages: how much a pixel changes on average by half of a slider. **Dead**: next to nothing."
            )
            sliders = [
                LiveSlider(-1, 1, value=0, visible=False, buttons=[], elem_id=f"slider-{i + 1}")
                for i in range(MAX_DIRECTIONS)
            ]
    return Sliders(before, after, reset, keep, undo, status, sliders)
