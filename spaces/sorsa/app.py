# SPDX-License-Identifier: Apache-2.0
"""The Space of SORSA: what training did to the spectrum, and what the adapter changes in the answers."""

import api
import gradio as gr
import page
from names import CHOICES, DATATYPES, DIGITS, HEADERS, SAMPLE_PROMPT

from eigenhub.hub.space import Space
from eigenhub.hub.space_controls import pick_or_type, sketchpad, thumbnails
from eigenhub.hub.space_events import BUTTON, MODEL, PRIVATE, QUEUE


SENTENCE = (
    "SORSA fine-tunes each weight through its own leading singular triplets U, S, V and keeps the vectors nearly "
    "orthonormal. See what that did to an adapter's spectrum, and to the model's answers."
)
MODE_LABELS = ("Adapter off", "Adapter on", "Adapter merged")

with Space("sorsa", "SORSA under the lens", SENTENCE) as demo:
    with gr.Row(elem_id="choice"):
        base = pick_or_type(CHOICES, DIGITS, "Base model", elem_id="base")
        adapter = pick_or_type(CHOICES, DIGITS, "SORSA adapter", elem_id="adapter")
        inspect_button = gr.Button("Inspect", elem_id="inspect", **BUTTON)
    pair = [base, adapter]
    summary = gr.HTML(
        "<p>Loading the embedded model. The very first time it is trained here, in about half a minute.</p>",
        elem_id="summary",
        elem_classes="space-html",
        min_height=96,
    )

    with gr.Tabs():
        with gr.Tab("Spectrum"):
            module = gr.Dropdown([], label="Weight whose singular values are plotted", elem_id="module")
            with gr.Row():
                values_plot = gr.Plot(show_label=False, min_width=300, elem_id="values-plot")
                orthonormality_plot = gr.Plot(show_label=False, min_width=300, elem_id="orthonormality-plot")
                condition_plot = gr.Plot(show_label=False, min_width=300, elem_id="condition-plot")
            table = gr.Dataframe(
                headers=HEADERS,
                datatype=DATATYPES,
                interactive=False,
                label="Every adapted weight (click a row to plot it)",
                max_height=420,
                elem_id="table",
            )

        with gr.Tab("Compare"):
            with gr.Column(elem_id="image-comparison") as image_side:
                with gr.Row():
                    with gr.Column(scale=2, min_width=300):
                        with gr.Column() as digit_side:
                            gr.Markdown("Click a handwritten digit that the model has never seen, or draw one.")
                            digits = thumbnails(columns=5, elem_id="digits")
                            sketch, take_button = sketchpad()
                        image = gr.Image(
                            label="Image", type="pil", sources=["upload", "clipboard"], height=220, elem_id="image"
                        )
                        classify_button = gr.Button("Compare", variant="primary", elem_id="classify")
                    with gr.Column(scale=3, min_width=300):
                        with gr.Row():
                            labels = [gr.Label(label=label, num_top_classes=3, min_width=190) for label in MODE_LABELS]
                        image_verdict = gr.Markdown(elem_id="image-verdict")
            with gr.Column(visible=False, elem_id="text-comparison") as text_side:
                prompt = gr.Textbox(SAMPLE_PROMPT, label="Prompt", lines=3, elem_id="prompt")
                with gr.Row():
                    max_new_tokens = gr.Slider(
                        1, 256, value=64, step=1, label="Longest answer, in tokens", min_width=260, scale=3
                    )
                    generate_button = gr.Button("Compare", elem_id="generate", **BUTTON)
                with gr.Row():
                    texts = [
                        gr.Textbox(label=label, lines=5, min_width=260, buttons=["copy"]) for label in MODE_LABELS
                    ]
                text_verdict = gr.Markdown(elem_id="text-verdict")

        with gr.Tab("Export"):
            gr.Markdown(
                "The change of every weight as a plain LoRA, which PEFT and model servers load without this package. "
                "At twice the adapter's rank the export is exact; below, the smallest directions are left out."
            )
            with gr.Row():
                # No slider: programs that never opened the page would be held to the maximum of the embedded adapter.
                rank = gr.Number(16, precision=0, minimum=1, label="LoRA rank", elem_id="rank", min_width=260, scale=3)
                export_button = gr.Button("Export", elem_id="export", **BUTTON)
            export_verdict = gr.Markdown(elem_id="export-verdict")
            file = gr.File(label="LoRA adapter", elem_id="file", height=90)

    base.input(page.follow, base, adapter, api_name="follow", show_progress="hidden", **PRIVATE)
    gr.on(
        [demo.load, inspect_button.click],
        page.show,
        pair,
        [summary, table, module, values_plot, orthonormality_plot, condition_plot]
        + [image_side, digit_side, digits, image, text_side, prompt, rank],
        api_name="show",
        show_progress_on=summary,
        **PRIVATE,
        **MODEL,
    )
    module.input(page.plot, [*pair, module], values_plot, api_name="plot", **PRIVATE, **MODEL)
    table.select(page.plot_row, pair, [module, values_plot], api_name="plot_row", **PRIVATE, **MODEL)

    classes = [*labels, image_verdict]
    digits.select(page.classify_sample, pair, [image, *classes], api_name="classify_sample", **PRIVATE, **MODEL)
    take_button.click(
        page.classify_drawing, [*pair, sketch], [image, *classes], api_name="classify_drawing", **PRIVATE, **MODEL
    )

    gr.api(api.inspect, api_name="inspect", **QUEUE)
    classify_button.click(api.classify, [*pair, image], classes, api_name="classify", **MODEL)
    generate_button.click(
        api.generate, [*pair, prompt, max_new_tokens], [*texts, text_verdict], api_name="generate", **MODEL
    )
    export_button.click(api.export, [*pair, rank], [file, export_verdict], api_name="export", **MODEL)

if __name__ == "__main__":
    demo.serve()
