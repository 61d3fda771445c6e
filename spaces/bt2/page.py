# SPDX-License-Identifier: Apache-2.0
"""What happens on the page alone. Each event does its whole work at once; chains of events can lose a link."""

from typing import Any

import api
import gradio as gr
from names import STATES
from PIL import Image


def show_text(
    old_encoder: str,
    new_encoder: str,
    query: str | None,
    share: float,
    calibrated: bool,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """The text tab for a pair of encoders: tiles, curve, questions to choose from, and the hits of one."""
    from material_text import sample_queries
    from reports import summary

    questions = sample_queries()
    query = (query or "").strip() or answered(questions, share, calibrated, old_encoder, new_encoder)
    results = search_text(query, share, calibrated, old_encoder, new_encoder)
    upgrade, _ = api.find_text(query, share, calibrated, old_encoder, new_encoder)
    return summary(upgrade), gr.Dropdown(choices=questions, value=query), *results


def answered(questions: list[str], share: float, calibrated: bool, old_encoder: str, new_encoder: str) -> str:
    """What the page begins with: the first question that the new index answers, so that there is something to see."""
    from material_text import right_answer

    for question in questions:
        upgrade, found = api.find_text(question, share, calibrated, old_encoder, new_encoder)
        if right_answer(question) in {upgrade.material.labels[hit.position] for hit in found["after"]}:
            return question
    return questions[0]


def search_text(
    query: str | None, share: float, calibrated: bool, old_encoder: str, new_encoder: str
) -> tuple[Any, ...]:
    """Verdict, three lists of hits and the curve."""
    from material_text import right_answer
    from reports import curve_figure, hits_html, verdict

    upgrade, found = api.find_text(query, share, calibrated, old_encoder, new_encoder)
    right = right_answer((query or "").strip())
    lists = (hits_html(upgrade, found[state], right) for state in STATES)
    return verdict(upgrade, found, right), *lists, curve_figure(upgrade, api.share_of(share))


def show_images(
    share: float,
    calibrated: bool,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
) -> tuple[Any, ...]:
    """The image tab: tiles, images to choose from, and the hits of the first one."""
    from reports import summary
    from upgrade import image_upgrade

    samples = sample_images()
    image, label = samples[0]
    return summary(image_upgrade()), samples, *search_images(image, label, share, calibrated)


def search_images(image: Image.Image | None, label: str, share: float, calibrated: bool) -> tuple[Any, ...]:
    """The image, its class where it is known, verdict, three rows of pictures and the curve."""
    from reports import curve_figure, hits_pictures, verdict

    upgrade, found = api.find_images(image, share, calibrated)
    right = label or None
    rows = (hits_pictures(upgrade, found[state], right) for state in STATES)
    return image, label, verdict(upgrade, found, right), *rows, curve_figure(upgrade, api.share_of(share))


def search_sample(share: float, calibrated: bool, event: gr.SelectData) -> tuple[Any, ...]:
    """The image that was clicked, as a query."""
    image, label = sample_images()[event.index]
    return search_images(image, label, share, calibrated)


def search_upload(image: Image.Image | None, share: float, calibrated: bool) -> tuple[Any, ...]:
    """An image of the visitor's, whose class is not known."""
    return search_images(image, "", share, calibrated)


def sample_images() -> list[tuple[Image.Image, str]]:
    """Test images of different classes with their names."""
    from material_images import image_material, sample_positions
    from pictures import to_image

    m = image_material()
    return [(to_image(m.contents[place]), m.labels[place]) for place in sample_positions()]
