# SPDX-License-Identifier: Apache-2.0
"""The tab on which samples are chosen and edited, and everything that follows a choice."""

from typing import Any

import controls
import events
import gradio as gr
import names_tab
import strip_tab
from controls import PICTURE
from sections import SIZES, TABS
from visits import Visit

from eigenhub.hub.space import on_gpu
from eigenhub.hub.space_events import MODEL, PRIVATE, QUEUE


INTRODUCTION = (
    "A projector gives each layer of a StyleGAN2 a short list of orthogonal directions, found without labels. Choose a sample and a "
    "layer, move the sliders, see **which directions do something**, give them names, and take them home. The embedded generator "
    "draws one coloured shape per image, so that what a direction does can be measured."
)
#: Dragging a slider draws as often as the machine keeps up with, and always where it is let go.
LIVE: dict[str, Any] = QUEUE | {"trigger_mode": "always_last", "show_progress": "hidden"}


def build(demo: gr.Blocks) -> tuple[list[Any], list[Any]]:
    """Lay the tab out and wire its events; returns what goes into [`open_model`] and what comes out of it."""
    gr.Markdown(INTRODUCTION)
    visit, active = gr.State(Visit()), gr.State("sliders")
    sample = controls.build_sample()
    place = controls.build_place()
    tabs = []
    with gr.Tabs():
        with gr.Tab("Sliders") as tab:
            tabs.append(tab)
            sliders = controls.build_sliders()
        with gr.Tab("Strip and film") as tab:
            tabs.append(tab)
            strip = strip_tab.build()
        with gr.Tab("All directions") as tab:
            tabs.append(tab)
            grid_parts = build_grid()
        with gr.Tab("Beside SeFa") as tab:
            tabs.append(tab)
            sefa_parts = build_sefa()
        with gr.Tab("Names") as tab:
            tabs.append(tab)
            labels = names_tab.build()

    choice = [
        sample.model,
        sample.number,
        sample.psi,
        sample.noise,
        sample.label,
        place.layer,
        place.basis,
        place.edit,
        sample.other,
    ]
    shown = [
        *(sliders.before, sliders.after, strip.direction, labels.direction, strip.reach, *sliders.sliders),
        *(strip.image, strip.caption),
        *grid_parts,
        *sefa_parts,
        labels.table,
    ]
    asked = [active, *choice, visit, sample.first]
    opened = [sample.model, sample.summary, sample.gallery, sample.number, sample.label, sample.other]
    opened += [place.layer, place.basis, visit, sliders.status, *shown]
    follow = [*choice, visit, strip.direction, strip.reach, *sliders.sliders]
    quiet: dict[str, Any] = {"show_progress": "hidden", **PRIVATE, **MODEL}
    gr.on(
        [demo.load, sample.load.click, sample.model.input],
        on_gpu(events.open_model),
        asked,
        opened,
        api_name="open_model",
        show_progress_on=[sample.summary, sliders.after],
        **PRIVATE,
        **MODEL,
    )
    given, drawn = [sample.first, active, *follow], [sample.gallery, sample.number, *shown]
    sample.more.click(on_gpu(events.draw_more), given, [sample.first, *drawn], api_name="draw_more", **quiet)
    redraw = [sample.first.submit, sample.first.blur, sample.label.submit, sample.label.blur]
    gr.on(
        [*redraw, sample.psi.release, sample.noise.input],
        on_gpu(events.draw_samples),
        given,
        drawn,
        api_name="draw_samples",
        **quiet,
    )
    sample.gallery.select(on_gpu(events.pick), given, [sample.number, *shown], api_name="pick", **quiet)
    gr.on(
        [place.layer.input, place.basis.input, place.edit.input, sample.other.input],
        on_gpu(events.choose),
        [active, *choice, visit],
        [place.basis, *shown],
        api_name="choose",
        show_progress_on=[sliders.after],
        **PRIVATE,
        **MODEL,
    )
    moved = [event for slider in sliders.sliders for event in (slider.input, slider.release)]
    gr.on(
        moved,
        on_gpu(events.move),
        [*choice, visit, *sliders.sliders],
        sliders.after,
        api_name="move",
        **PRIVATE,
        **LIVE,
    )
    for button, function in ((sliders.reset, events.reset), (sliders.keep, events.keep), (sliders.undo, events.undo)):
        button.click(
            on_gpu(function),
            [active, *choice, visit, *sliders.sliders],
            [visit, sliders.status, *shown],
            api_name=f"{function.__name__}_edits",
            **quiet,
        )
    for name, tab in zip(TABS, tabs, strict=True):
        tab.select(
            on_gpu(events.opener(name)),
            follow,
            [active, *shown],
            api_name=f"show_{name}",
            show_progress_on=shown_of(name, shown),
            **PRIVATE,
            **MODEL,
        )
    strip_tab.wire(strip, choice, visit)
    names_tab.wire(labels, choice, visit, active, place, shown)
    return asked, opened


def build_grid() -> list[Any]:
    """All directions of a layer."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            image = gr.Image(show_label=False, elem_id="grid", elem_classes="sheet", **PICTURE)
        with gr.Column(scale=1, min_width=300):
            gr.Markdown(
                "Each row is one direction; the middle of a row is the sample itself. Percentages: mean change of a pixel over several "
                "samples by half of the way. Demodulation makes a layer blind to some directions: those are **dead**."
            )
            factors = gr.HTML(elem_id="factors", elem_classes="space-html", label="Known factors", visible=False)
            effects = gr.HTML(elem_id="effects", elem_classes="space-html")
    return [image, factors, effects]


def build_sefa() -> list[Any]:
    """Two grids."""
    gr.Markdown(
        "SeFa factorises the weights of the generator as it was, without any training. Same sample, same length of the step in the "
        "style of the same layer, edits that were kept left out."
    )
    parts: list[Any] = []
    with gr.Row(equal_height=False):
        for side in ("ours", "theirs"):
            with gr.Column(min_width=300):
                words = gr.Markdown(elem_id=f"sefa-{side}-words")
                parts += [
                    gr.Image(show_label=False, elem_id=f"sefa-{side}", elem_classes="sheet", **PICTURE),
                    words,
                ]
    return parts


def shown_of(name: str, shown: list[Any]) -> list[Any]:
    """The part of a tab that says that it is being drawn."""
    place = sum(SIZES[tab] for tab in TABS[: TABS.index(name)])
    return [shown[place + 1 if name == "sliders" else place]]
