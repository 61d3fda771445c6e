# SPDX-License-Identifier: Apache-2.0
"""The Space of BT2: search before, during and after the change of an encoder."""

import api
import gradio as gr
import page
from names import EMBEDDED_NEW, EMBEDDED_OLD, NEW_CHOICES, OLD_CHOICES, STATES, TITLES

from eigenhub.hub.space import Space
from eigenhub.hub.space_controls import pick_or_type, thumbnails
from eigenhub.hub.space_events import BUTTON, MODEL, PRIVATE, QUEUE


SENTENCE = (
    "BT² makes an embedding whose first coordinates compare with the vectors that an old encoder already wrote. A better "
    "encoder searches the old index at once; items are embedded anew while the index is in use."
)
STYLE = """
.hits, .pictures { margin: 0 !important; padding: 0 !important; list-style: none !important; }
.hits li { border: 1px solid var(--border-color-primary); border-radius: var(--block-radius); padding: .6rem .8rem; margin: 0 0 .5rem; }
.hits li.is-right { border-color: #16a34a; box-shadow: inset 3px 0 0 #16a34a; }
.hits p { margin: .3rem 0 0; font-size: .9rem; line-height: 1.4; overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .5rem; }
.pictures li { margin: 0; text-align: center; }
.pictures img { width: 100%; margin: 0; border-radius: .4rem; border: 3px solid transparent; image-rendering: pixelated; }
.pictures li.is-right img { border-color: #16a34a; }
.pictures p { display: block !important; margin: .1rem 0 0; }
.hits span, .pictures span, .hits b.right { font-size: .75rem; margin-right: .6rem; }
.pictures span { margin: 0; white-space: nowrap; }
.hits span::before, .pictures span::before { content: ""; display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; background: #94a3b8; }
.hits span.new::before, .pictures span.new::before { background: #4f46e5; }
.hits b.right { color: #16a34a; }
#samples .caption-label { display: none; }
"""
WAIT = "<p>Making the embedded encoders. The very first time they are trained here, in about half a minute.</p>"


def share_row(tab: str) -> tuple[gr.Slider, gr.Checkbox]:
    """The slider and the switch that both tabs have."""
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            share = gr.Slider(0, 100, value=40, step=5, label="Share backfilled, in percent", elem_id=f"{tab}-share")
        with gr.Column(scale=1, min_width=220):
            calibrated = gr.Checkbox(True, label="Scale old vectors", info="by a factor chosen on other queries")
    return share, calibrated


with Space("bt2", "Upgrade a search without re-embedding it", SENTENCE, style=STYLE) as demo:
    with gr.Tab("Text", id="text"):
        with gr.Row(elem_id="choice"):
            old_encoder = pick_or_type(OLD_CHOICES, EMBEDDED_OLD, "Old encoder", min_width=240, elem_id="old")
            new_encoder = pick_or_type(NEW_CHOICES, EMBEDDED_NEW, "New encoder", min_width=240, elem_id="new")
            load_button = gr.Button("Load", elem_id="load", **BUTTON)
        text_summary = gr.HTML(WAIT, elem_id="text-summary", elem_classes="space-html", min_height=96)
        with gr.Row():
            query = gr.Dropdown(
                [],
                allow_custom_value=True,
                label="Question",
                info="first sentence of a docstring that no encoder has seen, or words of your own",
                elem_id="query",
                min_width=260,
                scale=5,
            )
            search_button = gr.Button("Search", elem_id="search", **BUTTON)
        text_share, text_calibrated = share_row("text")
        text_verdict = gr.Markdown(elem_id="text-verdict")
        with gr.Row():
            lists = []
            for state in STATES:
                with gr.Column(min_width=280):
                    gr.Markdown(f"**{TITLES[state]}**")
                    lists.append(gr.HTML(elem_id=f"text-{state}", padding=False))
        text_curve = gr.Plot(show_label=False, elem_id="text-curve")

    with gr.Tab("Images", id="images") as image_tab:
        image_summary = gr.HTML(WAIT, elem_id="image-summary", elem_classes="space-html", min_height=96)
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                gr.Markdown("Click a letter or sign that neither network was trained on, or bring your own.")
                samples = thumbnails(columns=6, elem_id="samples")
            with gr.Column(scale=1, min_width=200):
                image = gr.Image(
                    label="Query", type="pil", sources=["upload", "clipboard"], height=200, elem_id="image"
                )
        label = gr.Textbox(visible=False)
        image_share, image_calibrated = share_row("image")
        image_verdict = gr.Markdown(elem_id="image-verdict")
        with gr.Row():
            rows = []
            for state in STATES:
                with gr.Column(min_width=280):
                    gr.Markdown(f"**{TITLES[state]}**")
                    rows.append(gr.HTML(elem_id=f"image-{state}", padding=False))
        image_curve = gr.Plot(show_label=False, elem_id="image-curve")

    encoders = [old_encoder, new_encoder]
    text_controls = [query, text_share, text_calibrated]
    text_results = [text_verdict, *lists, text_curve]
    gr.on(
        [demo.load, load_button.click],
        page.show_text,
        [*encoders, *text_controls],
        [text_summary, query, *text_results],
        api_name="show_text",
        show_progress_on=text_summary,
        **PRIVATE,
        **MODEL,
    )
    gr.on(
        [search_button.click, query.input, text_share.release, text_calibrated.input],
        page.search_text,
        [*text_controls, *encoders],
        text_results,
        api_name="search_text_on_page",
        show_progress="hidden",
        **PRIVATE,
        **MODEL,
    )
    image_controls = [image_share, image_calibrated]
    image_results = [image, label, image_verdict, *rows, image_curve]
    image_tab.select(
        page.show_images,
        image_controls,
        [image_summary, samples, *image_results],
        api_name="show_images",
        show_progress_on=image_summary,
        **PRIVATE,
        **MODEL,
    )
    samples.select(
        page.search_sample,
        image_controls,
        image_results,
        api_name="search_sample",
        show_progress="hidden",
        **PRIVATE,
        **MODEL,
    )
    image.upload(
        page.search_upload, [image, *image_controls], image_results, api_name="search_upload", **PRIVATE, **MODEL
    )
    gr.on(
        [image_share.release, image_calibrated.input],
        page.search_images,
        [image, label, *image_controls],
        image_results,
        api_name="search_images_on_page",
        show_progress="hidden",
        **PRIVATE,
        **MODEL,
    )
    gr.api(api.search_text, api_name="search_text", **QUEUE)
    # Not `gr.api`: only through a component does an uploaded file arrive as an image.
    for_programs = gr.Button(visible=False)
    for_programs.click(
        api.search_images, [image, *image_controls], gr.JSON(visible=False), api_name="search_images", **QUEUE
    )
    gr.api(api.curve, api_name="curve", **QUEUE)

if __name__ == "__main__":
    demo.serve()
