# SPDX-License-Identifier: Apache-2.0
"""What happens on the first tab. Each event does its whole work at once; chains of events can lose a link."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr
from choosing import basis_menu, chosen
from names import NUM_SAMPLES, spoken
from sections import SIZES, after, sections
from visits import Choice, Visit

from eigenhub.hub.space_events import shown_to_visitor


PLACE = 9  # entries of a choice
THUMBNAIL = 128


def open_model(
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  # gradio finds the bar by this default
    *values: Any,
) -> list[Any]:
    """A generator from the beginning: its samples, its layers, and the first of each."""
    return opened(*values)


def opened(active: str, *values: Any) -> list[Any]:
    """Everything that the tab shows of a generator."""
    choice, visit, first = Choice.of(*values[:PLACE]), values[PLACE], values[PLACE + 1]
    from computing import complete, default_other, generator, layer_choices, load_images, model_tiles

    with shown_to_visitor("This generator cannot be shown"):
        model, other = generator(choice.model), default_other(choice.model, choice.other)
        fresh = replace(choice, other=other, number=int(first or 0), layer="", basis="", label=0)
        choice, visit = complete(fresh), replace(visit, kept=())
        return [
            choice.model,
            model_tiles(model),
            gr.Gallery(value=load_images(choice, NUM_SAMPLES, THUMBNAIL), selected_index=0),
            choice.number,
            gr.Number(value=0, visible=model.config.c_dim > 0),
            other,
            gr.Dropdown(choices=layer_choices(model, choice.model, visit), value=choice.layer),
            basis_menu(choice, visit)[0],
            visit,
            "",
            *sections(active, choice, visit, None, 0, None),
        ]


def draw_more(first: float | None, active: str, *values: Any) -> list[Any]:
    """Twelve further samples."""
    start = int(first or 0) + NUM_SAMPLES
    return [start, *draw_samples(start, active, *values)]


def draw_samples(first: float | None, active: str, *values: Any) -> list[Any]:
    """Other samples, or the same drawn otherwise; the sliders stay where they are."""
    choice, visit, k, reach, steps = parted(values)
    start = int(first or 0)
    number = choice.number if start <= choice.number < start + NUM_SAMPLES else start
    from computing import load_images

    with shown_to_visitor("These samples cannot be drawn"):
        images = load_images(replace(choice, number=start), NUM_SAMPLES, THUMBNAIL)
        gallery = gr.Gallery(value=images, selected_index=number - start)
        return [gallery, number, *sections(active, replace(choice, number=number), visit, steps, k, reach)]


def pick(event: gr.SelectData, first: float | None, active: str, *values: Any) -> list[Any]:
    """The sample that was clicked, edited as the sliders say."""
    choice, visit, k, reach, steps = parted(values)
    choice = replace(choice, number=int(first or 0) + event.index)
    with shown_to_visitor("This sample cannot be drawn"):
        return [choice.number, *sections(active, choice, visit, steps, k, reach)]


def parted(values: tuple[Any, ...]) -> tuple[Choice, Visit, int, float | None, list[float]]:
    """Choice, visit, direction and reach of the strip, and sliders."""
    visit, k, reach, *steps = values[PLACE:]
    return chosen(values[:PLACE], visit), visit, int(k or 0), reach, list(steps)


def choose(active: str, *values: Any) -> list[Any]:
    """Another layer, basis, kind of edit or unprojected generator, with the sliders at zero."""
    visit = values[PLACE]
    choice = chosen(values[:PLACE], visit)
    with shown_to_visitor("These directions cannot be shown"):
        menu, _ = basis_menu(choice, visit)
        return [menu, *sections(active, choice, visit, None, 0, None)]


def move(*values: Any) -> Any:
    """The image at the sliders."""
    with shown_to_visitor("This edit cannot be drawn"):
        return after(chosen(values[:PLACE], values[PLACE]), values[PLACE], values[PLACE + 1 :])


def reset(active: str, *values: Any) -> list[Any]:
    """Sliders at zero; edits that were kept stay."""
    return edits(active, chosen(values[:PLACE], values[PLACE]), values[PLACE])


def keep(active: str, *values: Any) -> list[Any]:
    """What the sliders do becomes a part of every image, so that another layer can be edited on top of it."""
    visit = values[PLACE]
    choice = chosen(values[:PLACE], visit)
    from computing import find, shift_of

    with shown_to_visitor("This edit cannot be kept"):
        found = find(choice, visit)
        steps = [float(value or 0) for value in values[PLACE + 1 :]][: found.count]
        if any(steps):
            visit = replace(visit, kept=(*visit.kept, shift_of(choice, found, steps)))
    return edits(active, choice, visit)


def undo(active: str, *values: Any) -> list[Any]:
    """The sample as it was."""
    return edits(active, chosen(values[:PLACE], values[PLACE]), replace(values[PLACE], kept=()))


def edits(active: str, choice: Choice, visit: Visit) -> list[Any]:
    """Everything after a change of the edits that stay."""
    count = len(visit.kept)
    layers = ", ".join(dict.fromkeys(spoken(shift.layer) for shift in visit.kept))
    words = f"{count} {'edit' if count == 1 else 'edits'} kept, in {layers}. The sliders come on top." if count else ""
    with shown_to_visitor("This edit cannot be drawn"):
        return [visit, words, *sections(active, choice, visit, None, 0, None)]


def opener(name: str) -> Callable[..., list[Any]]:
    """
    What happens when a tab is opened.

    Args:
        name (`str`): of the tab, one of `sections.TABS`.
    """

    def show(*values: Any) -> list[Any]:
        if not values[5]:  # no layer: the page is still loading
            return [name, *[gr.skip()] * sum(SIZES.values())]
        choice, visit, k, reach, steps = parted(values)
        with shown_to_visitor("This cannot be shown"):
            return [name, *sections(name, choice, visit, steps, k, reach)]

    return show
