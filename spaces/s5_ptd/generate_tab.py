# SPDX-License-Identifier: Apache-2.0
"""The tab on which a model writes."""

from typing import Any

import api
import gradio as gr
from names import EMBEDDED_TEXT, PROMPT, WRITERS

from eigenhub.hub.space import tiles
from eigenhub.hub.space_controls import pick_or_type
from eigenhub.hub.space_events import BUTTON, MODEL, PRIVATE


INTRODUCTION = (
    "A state space model keeps one state per layer, of the same size after ten tokens and after ten thousand, and every token "
    "costs the same. Both are measured here while the text is written. The embedded model has 170,000 numbers and "
    "a minute of training behind it: look at the memory, not at the prose."
)


def build() -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        model = pick_or_type(WRITERS, EMBEDDED_TEXT, "Model", elem_id="writer")
        length = gr.Slider(16, 2048, value=256, step=16, label="Tokens to write", min_width=220, elem_id="length")
        temperature = gr.Slider(0, 1.5, value=0.7, step=0.1, label="Temperature", min_width=160, elem_id="temperature")
    prompt = gr.Textbox(PROMPT, label="Prompt", lines=2, elem_id="prompt")
    button = gr.Button("Write", elem_id="write", **BUTTON)
    facts = gr.HTML(elem_id="memory-facts", elem_classes="space-html", min_height=96)
    text = gr.Textbox(label="It writes", lines=8, max_lines=16, buttons=["copy"], elem_id="text")
    with gr.Row():
        plots = [gr.Plot(show_label=False, min_width=320, elem_id=f"{name}-plot") for name in ("memory", "time")]
    button.click(
        show,
        [prompt, length, temperature, model],
        [text, facts, *plots],
        api_name="show_generation",
        show_progress_on=[text, facts],
        **PRIVATE,
        **MODEL,
    )


def show(
    prompt: str,
    length: int,
    temperature: float,
    model: str,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """The text, with what it took."""
    found = api.generate(prompt, length, temperature, model)
    from memory_figure import memory_figure, time_figure
    from writers import Written

    written = Written(**found)
    first, last = written.seconds[0], written.seconds[-1]
    facts = [
        ("State", f"{written.state_bytes[-1] / 1024:.1f} KiB", f"after {written.tokens[-1]} tokens"),
        ("State", f"{written.state_bytes[0] / 1024:.1f} KiB", f"after {written.tokens[0]} tokens: the same"),
        ("A transformer", f"{written.attention_bytes[-1] / 1024:.0f} KiB", "of keys and values, same width and depth"),
        ("Per token", f"{1000 * last:.2f} ms", f"at the end; {1000 * first:.2f} ms at the beginning, prompt included"),
    ]
    return written.text, tiles(facts), memory_figure(written), time_figure(written)
