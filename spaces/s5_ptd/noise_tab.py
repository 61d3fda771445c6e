# SPDX-License-Identifier: Apache-2.0
"""The tab on which a digit is disturbed."""

from typing import Any

import api
import gradio as gr
from names import FREQUENCIES, INITS
from PIL import Image

from eigenhub.hub.space_controls import sketchpad, thumbnails
from eigenhub.hub.space_events import MODEL, PRIVATE


INTRODUCTION = (
    "Three classifiers read a digit pixel by pixel, 256 steps. They differ in nothing but how the state matrix was "
    "initialised, and are equally good on clean digits. Noise of a single frequency on the input of their layers tells them "
    "apart: at the frequency that the **diagonal part of HiPPO** amplifies 200-fold it breaks S4D-LegS long before the two that "
    "were **perturbed, then diagonalised**. This is the worst noise for S4D-LegS; try another frequency too."
)


def build(demo: gr.Blocks) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            gr.Markdown("Click a digit that the classifiers have not seen:")
            digits = thumbnails(label="Digits", columns=5, elem_id="digits")
            sketch, take_button = sketchpad()
            with gr.Accordion("Compare with another model", open=False):
                other = gr.Textbox(
                    label="S5 or S4D classifier of images with one channel",
                    info="Hub id or folder, as `eigenhub train s5_ptd --task digits` writes it",
                    elem_id="other",
                )
        with gr.Column(scale=3, min_width=300):
            amplitude = gr.Slider(0, 1, value=0.3, step=0.05, label="Amplitude of the noise", elem_id="amplitude")
            where = gr.Radio(
                [(label, name) for name, label in FREQUENCIES.items()],
                value="legs",
                label="Frequency of the noise",
                elem_id="frequency",
            )
            with gr.Row():
                labels = [gr.Label(label=label, num_top_classes=3, min_width=170) for label in INITS.values()]
                other_label = gr.Label(label="The other model", num_top_classes=3, min_width=170, visible=False)
            verdict = gr.Markdown(
                "Loading the classifiers. The very first time they are trained here, in about a minute.",
                elem_id="noise-verdict",
            )
    with gr.Row():
        accuracy_plot = gr.Plot(show_label=False, min_width=320, elem_id="accuracy-plot")
        sequence_plot = gr.Plot(show_label=False, min_width=320, elem_id="sequence-plot")
    image = gr.State()

    settings = [amplitude, where, other]
    shown = [image, *labels, other_label, verdict, accuracy_plot, sequence_plot]
    waiting = {"show_progress_on": [verdict, *labels]}
    demo.load(begin, settings, [digits, *shown], api_name="begin", **waiting, **PRIVATE, **MODEL)
    digits.select(pick, settings, shown, api_name="pick", **waiting, **PRIVATE, **MODEL)
    take_button.click(take, [sketch, *settings], shown, api_name="take", **waiting, **PRIVATE, **MODEL)
    gr.on(
        [amplitude.release, where.input, other.submit],
        show,
        [image, *settings],
        shown,
        api_name="show_noise",
        **waiting,
        **PRIVATE,
        **MODEL,
    )
    # A program sends a file and gets all probabilities; the page shows three per model.
    sent, answer = gr.Image(label="Digit", type="pil", visible=False), gr.JSON(label="Probabilities", visible=False)
    gr.Button(visible=False).click(api.classify, [sent, *settings], answer, api_name="classify", **MODEL)


def begin(
    amplitude: float,
    where: str,
    other: str,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """The digits to click, and the first thing to see."""
    from pictures import sample_images

    images = sample_images()
    return images, *show(images[3], amplitude, where, other)


def pick(amplitude: float, where: str, other: str, event: gr.SelectData) -> tuple[Any, ...]:
    """The digit that was clicked."""
    from pictures import sample_images

    return show(sample_images()[event.index], amplitude, where, other)


def take(drawing: dict[str, Any], amplitude: float, where: str, other: str) -> tuple[Any, ...]:
    """The drawing as the classifiers see it."""
    from pictures import digit_from_drawing

    layers = drawing["layers"]  # the composite has the ground painted in
    digit = digit_from_drawing(layers[0]) if layers else None
    if digit is None:
        raise gr.Error("Nothing has been drawn: choose the brush, then draw a digit.")
    return show(digit, amplitude, where, other)


def show(image: Image.Image, amplitude: float, where: str, other: str) -> tuple[Any, ...]:
    """Answers, a sentence and two figures for one digit."""
    from classifiers import load_curves
    from noise_figure import accuracy_figure, sequence_figure
    from pictures import digit_from_image

    answers = api.classify(image, amplitude, where, other)
    omega = answers.pop("omega")
    named = gr.Label(value=answers.get("other"), visible="other" in answers)
    return (
        image,
        *(answers[init] for init in INITS),
        named,
        sentence(answers, float(amplitude), omega),
        accuracy_figure(load_curves(), where, float(amplitude)),
        sequence_figure(digit_from_image(image), float(amplitude), omega),
    )


def sentence(answers: dict[str, dict[str, float]], amplitude: float, omega: float) -> str:
    """What the classifiers say, in words."""
    best = {init: max(answers[init], key=answers[init].__getitem__) for init in INITS}
    said = "; ".join(f"{INITS[init]} says **{name}** ({answers[init][name]:.0%})" for init, name in best.items())
    noise = f"noise of amplitude {amplitude:g} at ω = {omega:.4g}" if amplitude else "no noise"
    return f"With {noise}: {said}. Mean over 16 draws."
