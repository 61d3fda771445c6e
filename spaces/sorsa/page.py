# SPDX-License-Identifier: Apache-2.0
"""What happens on the page alone. Each event does its whole work at once; chains of events can lose a link."""

from typing import Any

import api
import gradio as gr
from names import CHOICES, DIGITS, PROBLEMS, SAMPLE_PROMPT
from PIL import Image


def follow(base: str) -> Any:
    """An embedded base takes its own adapter along; otherwise the visitor may be writing the adapter just now."""
    return base if base in CHOICES else gr.skip()


def show(
    base: str,
    adapter: str,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """Report on the pair, with the modules, ranks, samples and the kind of comparison that belong to it."""
    import reports
    from pairs import load_pair
    from pictures import sample_digits

    pair = load_pair(base, adapter)
    report = pair.spectra
    modules = list(report)
    widest = 2 * max(len(entry.s) for entry in report.values())
    digits = sample_digits() if pair.base == DIGITS else []
    return (
        reports.summary(report, type(pair.model.get_base_model()).__name__),
        reports.table(report),
        gr.Dropdown(choices=modules, value=modules[0]),
        reports.singular_values_figure(report[modules[0]]),
        reports.orthonormality_figure(report),
        reports.condition_figure(report),
        gr.Column(visible=pair.kind == "image"),
        gr.Column(visible=bool(digits)),
        digits,
        None,  # the image of another model
        gr.Column(visible=pair.kind == "text"),
        SAMPLE_PROMPT if pair.base == PROBLEMS else "",
        gr.Number(value=widest, info=f"{widest} is exact, less is compressed"),
    )


def plot(base: str, adapter: str, module: str) -> Any:
    """Singular values of the chosen module before and after training."""
    from pairs import load_pair
    from reports import singular_values_figure

    return singular_values_figure(load_pair(base, adapter).spectra[module])


def plot_row(base: str, adapter: str, event: gr.SelectData) -> tuple[str, Any]:
    """The module whose row was clicked, and its singular values."""
    module = event.row_value[0]
    return module, plot(base, adapter, module)


def classify_sample(base: str, adapter: str, event: gr.SelectData) -> tuple[Any, ...]:
    """The digit that was clicked, and its classes."""
    from pictures import sample_digits

    image = sample_digits()[event.index]
    return image, *api.classify(base, adapter, image)


def classify_drawing(base: str, adapter: str, drawing: dict[str, Any]) -> tuple[Any, ...]:
    """The drawing as the embedded model sees it, and its classes."""
    image = digit_of(drawing["layers"])  # the composite has the ground painted in
    return image, *api.classify(base, adapter, image)


def digit_of(layers: list[Image.Image]) -> Image.Image:
    from pictures import digit_from_drawing

    digit = digit_from_drawing(layers[0]) if layers else None
    if digit is None:
        raise gr.Error("Nothing has been drawn: choose the brush, then draw a digit.")
    return digit
