# SPDX-License-Identifier: Apache-2.0
"""The controls of a run and the settings that they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from names import CLIENTS, EPSILONS, EXPONENTS, INITS, METHODS, OPTIMIZERS, RATES, ROUNDS, SGD, STEPS, SUMMARIES
from settings import Settings

from eigenhub.hub.space_events import PRIVATE


@dataclass(frozen=True)
class Controls:
    """
    What other parts of the page listen to.

    Args:
        clients (`gr.Slider`): number of clients.
        exponent (`gr.Slider`): decadic logarithm of alpha.
        seed (`gr.Number`): seed.
        inputs (`Sequence`): all controls, in the order of `settings_of`.
    """

    clients: gr.Slider
    exponent: gr.Slider
    seed: gr.Number
    inputs: Sequence[Any]


def build() -> Controls:
    """Lay the controls out."""
    with gr.Row():
        method = gr.Dropdown(
            [(label, name) for name, label in METHODS.items()],
            value="fedsvd",
            label="Method",
            info=SUMMARIES["fedsvd"],
            min_width=280,
            scale=2,
            elem_id="method",
        )
        optimizer = gr.Radio(
            [(label, name) for name, label in OPTIMIZERS.items()],
            value=SGD,
            label="Clients train with",
            min_width=200,
            elem_id="optimizer",
        )
    with gr.Row():
        clients = gr.Slider(*CLIENTS, value=6, step=1, label="Clients", min_width=200, elem_id="clients")
        exponent = gr.Slider(
            *EXPONENTS,
            value=-0.25,
            step=0.25,
            label="log₁₀ α: left every client has few digits, right all have the same mixture",
            min_width=300,
            elem_id="alpha",
        )
    with gr.Row():
        rounds = gr.Slider(*ROUNDS, value=15, step=1, label="Rounds", min_width=200, elem_id="rounds")
        steps = gr.Slider(*STEPS, value=10, step=1, label="Local steps in a round", min_width=200, elem_id="steps")
    private = gr.Checkbox(
        False,
        label="Differential privacy",
        info="Clip the gradient of every image, add noise, and keep account of both",
        elem_id="private",
    )
    with gr.Accordion("Privacy", open=True, visible=False) as privacy_box:
        with gr.Row():
            epsilon = gr.Slider(
                *EPSILONS, value=6, step=1, label="ε of every client", min_width=200, elem_id="epsilon"
            )
            delta = gr.Number(1e-3, label="δ, below one over a client's images", minimum=0, min_width=200)
            clip = gr.Number(2.0, label="Clip gradients to", minimum=0, step=0.5, min_width=200)
        show_private = gr.Checkbox(
            False,
            label="Show what clients measure",
            info="Their accuracies on rows of their own: not covered by the guarantee",
            elem_id="show-private",
        )
    with gr.Accordion("More settings", open=False):
        with gr.Row():
            init = gr.Dropdown(
                [(label, name) for name, label in INITS.items()],
                value="kaiming",
                label="A begins",
                min_width=220,
                elem_id="init",
            )
            rate = gr.Number(RATES[SGD], label="Learning rate", minimum=0, min_width=150, elem_id="rate")
            share = gr.Slider(0.1, 1, value=0.5, step=0.1, label="Share of the clients in a round", min_width=200)
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=150, elem_id="seed")
        rotation = gr.Checkbox(
            False,
            label="Send A as a rotation",
            info="Of a basis that is sent once; for FedSVD and both kinds of FFA-LoRA",
            elem_id="rotation",
        )
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, **PRIVATE}
    method.input(lambda name: gr.Dropdown(info=SUMMARIES[name]), method, method, api_name="summary", **quiet)
    optimizer.input(RATES.get, optimizer, rate, api_name="usual_rate", **quiet)
    private.input(lambda on: gr.Accordion(visible=on), private, privacy_box, api_name="open_privacy", **quiet)
    inputs = [
        *(clients, exponent, method, rounds, steps, private, epsilon, delta),
        *(optimizer, init, rate, share, clip, rotation, show_private, seed),
    ]
    return Controls(clients, exponent, seed, inputs)


def settings_of(values: Sequence[Any]) -> Settings:
    """The settings behind the values of all controls."""
    clients, exponent, method, rounds, steps, private, epsilon, *rest = values
    return Settings(clients, 10**exponent, method, rounds, steps, epsilon if private else 0.0, *rest)
