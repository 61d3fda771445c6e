# SPDX-License-Identifier: Apache-2.0
"""The tab on which a prompt is scored, and the threshold that the score is held against."""

import random
from typing import Any

import calibration_part
import controls
import gradio as gr
from names import EXAMPLES, MODELS

from eigenhub.hub.space_events import BUTTON, MODEL, PRIVATE


INTRODUCTION = (
    "Ask a model the same thing K times. If it knows, the answers agree and their hidden states lie together; if it makes "
    "something up, they scatter. **EigenScore** (INSIDE, [arXiv 2402.03744](https://arxiv.org/abs/2402.03744)) is the mean "
    "logarithm of the eigenvalues of their covariance. It means nothing without a threshold, so one is calibrated below. The "
    "embedded models live in a small world of facts about people, where the truth of every answer is known."
)
PROMPT = "Person and two words, as in the examples; or anything for a model of your own"
FIRST = (
    "Calibrating the embedded model, then scoring a first question. The very first time it is trained here, in about a minute "
    "and a half."
)


def build(demo: gr.Blocks) -> None:
    """Lay the tab out and wire its events."""
    gr.Markdown(INTRODUCTION)
    chosen = controls.build()
    with gr.Row():
        prompt = gr.Textbox(
            label="Prompt", placeholder=PROMPT, lines=2, max_lines=8, scale=4, min_width=260, elem_id="prompt"
        )
        button = gr.Button("Score", elem_id="score", **BUTTON)
    with gr.Row(elem_id="examples") as examples:
        buttons = {
            kind: gr.Button(words, size="sm", min_width=160, elem_id=f"example-{kind}")
            for kind, words in EXAMPLES.items()
        }
    verdict = gr.Markdown(FIRST, elem_id="verdict")
    summary = gr.HTML(elem_id="summary", elem_classes="space-html", min_height=96)
    with gr.Row(equal_height=False):
        plot = gr.Plot(show_label=False, min_width=320, elem_id="spectrum-plot")
        with gr.Column(min_width=320):
            table = gr.HTML(elem_id="answers", elem_classes="space-html")
    record, threshold = gr.State(), gr.State()
    calibrated, first = calibration_part.build(demo, chosen, threshold)

    shown = [verdict, summary, plot, table, record]
    asked = [prompt, threshold, *chosen.inputs]
    waiting = {"show_progress_on": [verdict, summary]}
    gr.on([button.click, prompt.submit], show, asked, shown, api_name="show_score", **waiting, **PRIVATE, **MODEL)
    for kind, example in buttons.items():
        example.click(lambda kind=kind: draw(kind), None, prompt, api_name=f"draw_{kind}", **PRIVATE).success(
            show, asked, shown, api_name=f"show_{kind}", **waiting, **PRIVATE, **MODEL
        )
    first.success(begin, [record, *asked], [prompt, *shown], api_name="begin_score", **waiting, **PRIVATE, **MODEL)
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, **PRIVATE}
    calibrated.success(judge_again, [record, threshold], [verdict, summary], api_name="judge_again", **quiet)
    chosen.model.change(
        lambda model: gr.Row(visible=model in MODELS), chosen.model, examples, api_name="offer_examples", **quiet
    )


def draw(kind: str) -> str:
    """Another question of a kind each time."""
    from computing import example

    return example(kind, random.Random())


def show(
    prompt: str,
    threshold: dict | None,
    *values: Any,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """Everything that the tab shows of a prompt."""
    from computing import require_prompt, score_prompts

    settings = controls.settings_of(values)
    (record,) = score_prompts(settings, [require_prompt(settings, prompt)])
    return told(record, threshold)


def begin(
    record: dict | None,
    prompt: str,
    threshold: dict | None,
    *values: Any,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """Something to see when the page is opened; what the visitor has asked meanwhile stays."""
    settings = controls.settings_of(values)
    if record is not None or prompt or not settings.is_embedded:
        return tuple([gr.skip()] * 6)
    from computing import example

    question = example("paraphrase")
    return question, *show(question, threshold, *values)


def told(record: dict, threshold: dict | None) -> tuple[Any, ...]:
    """Words, figures and table of a score."""
    from computing import judged, spectrum_figure
    from reports import answers_table, score_tiles, verdict_words

    held = judged(record, threshold)
    return (
        verdict_words(record, held),
        score_tiles(record, held),
        spectrum_figure(record),
        answers_table(record),
        record,
    )


def judge_again(record: dict | None, threshold: dict | None) -> tuple[Any, Any]:
    """The score on the page against a new threshold."""
    if record is None:
        return gr.skip(), gr.skip()
    from computing import judged
    from reports import score_tiles, verdict_words

    held = judged(record, threshold)
    return verdict_words(record, held), score_tiles(record, held)
