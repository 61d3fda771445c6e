# SPDX-License-Identifier: Apache-2.0
"""The controls of a score and the settings that they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from names import CONVENTIONS, LAYERS, LENGTHS, MODELS, SAMPLES, TEMPERATURES, TOKENS, TOLD
from settings import SCORE_FIELDS, ScoreSettings

from eigenhub.hub.space_controls import pick_or_type


DEFAULTS = ScoreSettings()


@dataclass(frozen=True)
class Controls:
    """
    What other parts of the page listen to.

    Args:
        model (`gr.Dropdown`): which model.
        inputs (`Sequence`): all controls, in the order of the fields of `ScoreSettings`.
    """

    model: gr.Dropdown
    inputs: Sequence[Any]


def build() -> Controls:
    """Lay the controls out."""
    with gr.Row():
        model = pick_or_type(
            MODELS,
            TOLD,
            "Model",
            info="Pick one, or type a Hub id or folder of a causal language model",
            min_width=280,
            scale=2,
            elem_id="model",
        )
        count = gr.Slider(
            *SAMPLES, value=DEFAULTS.num_samples, step=1, label="K, answers to draw", min_width=180, elem_id="count"
        )
        temperature = gr.Slider(
            *TEMPERATURES,
            value=DEFAULTS.temperature,
            step=0.05,
            label="Temperature",
            min_width=180,
            elem_id="temperature",
        )
    with gr.Accordion("More settings: sampling, layer, convention", open=False):
        with gr.Row():
            top_p = gr.Slider(0.05, 1, value=DEFAULTS.top_p, step=0.01, label="top-p", min_width=180, elem_id="top-p")
            top_k = gr.Slider(
                0, 100, value=DEFAULTS.top_k, step=1, label="top-k; 0: all tokens", min_width=180, elem_id="top-k"
            )
            length = gr.Slider(
                *LENGTHS,
                value=DEFAULTS.max_new_tokens,
                step=1,
                label="Longest answer, tokens",
                min_width=180,
                elem_id="longest",
            )
            seed = gr.Number(DEFAULTS.seed, label="Seed", precision=0, minimum=0, min_width=120, elem_id="seed")
        with gr.Row():
            convention = gr.Dropdown(
                [(label, name) for name, label in CONVENTIONS.items()],
                value=DEFAULTS.convention,
                label="Convention",
                info="Scores of two conventions cannot be compared",
                min_width=280,
                scale=2,
                elem_id="convention",
            )
            layer = gr.Dropdown(
                [(label, name) for name, label in LAYERS.items()],
                value=DEFAULTS.layer,
                allow_custom_value=True,
                label="Layer",
                info="Or a number, 0 for the embeddings",
                min_width=180,
                elem_id="layer",
            )
            token = gr.Dropdown(
                [(label, name) for name, label in TOKENS.items()],
                value=DEFAULTS.token,
                label="State of an answer",
                info="Taken of which of its tokens",
                min_width=180,
                elem_id="token",
            )
    return Controls(model, [model, count, temperature, top_p, top_k, length, layer, token, convention, seed])


def settings_of(values: Sequence[Any]) -> ScoreSettings:
    """The settings behind the values of all controls."""
    return ScoreSettings(**dict(zip(SCORE_FIELDS, values, strict=True)))
