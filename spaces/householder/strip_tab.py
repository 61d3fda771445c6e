# SPDX-License-Identifier: Apache-2.0
"""The tab with one direction: its strip follows the menu, and films are made when they are asked for."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import gradio as gr
from choosing import chosen
from controls import PICTURE
from names import FILM_FRAMES
from sections import strip as draw_strip
from visits import Choice, Visit

from eigenhub.hub.space import on_gpu
from eigenhub.hub.space_controls import LiveSlider
from eigenhub.hub.space_events import MODEL, PRIVATE, shown_to_visitor


@dataclass
class Strip:
    """The tab with one direction."""

    direction: gr.Dropdown
    reach: gr.Slider
    image: gr.Image
    caption: gr.HTML
    png: gr.Button
    gif: gr.Button
    mp4: gr.Button
    film: gr.Image
    file: gr.File


def build() -> Strip:
    """One direction, seven images, and films of it."""
    with gr.Row():
        direction = gr.Dropdown([], label="Direction", min_width=220, elem_id="direction")
        reach = LiveSlider(0, 10, value=5, label="Reach on both sides", min_width=220, elem_id="reach")
    caption = gr.HTML(elem_id="strip-caption", elem_classes="space-html")
    image = gr.Image(show_label=False, elem_id="strip", elem_classes="sheet", **PICTURE)
    with_mp4 = find_spec("av") is not None
    with gr.Row():
        png = gr.Button("Strip as PNG", min_width=130, elem_id="png")
        gif = gr.Button("Film as GIF", min_width=130, elem_id="gif")
        mp4 = gr.Button("Film as MP4", min_width=130, interactive=with_mp4, elem_id="mp4")
    if not with_mp4:
        gr.Markdown("MP4 needs PyAV beside this page: `pip install av`.", elem_id="no-mp4")
    with gr.Row(equal_height=False):
        film = gr.Image(
            label="Film", type="filepath", interactive=False, visible=False, height=256, buttons=[], elem_id="film"
        )
        file = gr.File(label="To download", visible=False, height=90, elem_id="file")
    return Strip(direction, reach, image, caption, png, gif, mp4, film, file)


def wire(strip: Strip, choice: list[Any], visit: gr.State) -> None:
    """Wire its events."""
    asked = [*choice, visit, strip.direction, strip.reach]
    gr.on(
        [strip.direction.input, strip.reach.release],
        on_gpu(show),
        asked,
        [strip.image, strip.caption],
        api_name="show_direction",
        show_progress="hidden",
        **PRIVATE,
        **MODEL,
    )
    for button, function in ((strip.png, png), (strip.gif, gif), (strip.mp4, mp4)):
        button.click(
            on_gpu(function),
            asked,
            [strip.film, strip.file],
            api_name=f"make_{function.__name__}",
            show_progress_on=[strip.image],
            **PRIVATE,
            **MODEL,
        )


def asked_for(values: tuple[Any, ...]) -> tuple[Choice, Visit, int, float]:
    """Choice, visit, direction and reach."""
    *place, visit, k, reach = values
    return chosen(place, visit), visit, int(k or 0), float(reach)


def show(*values: Any) -> list[Any]:
    """Another direction, or another reach."""
    with shown_to_visitor("This direction cannot be drawn"):
        return draw_strip(*asked_for(values))


def png(*values: Any) -> list[Any]:
    """The strip as it is seen."""
    from computing import file_name, png_file

    choice, visit, k, reach = asked_for(values)
    with shown_to_visitor("This strip cannot be saved"):
        image, _ = draw_strip(choice, visit, k, reach)
        return [gr.Image(visible=False), taken_home(png_file(image, file_name(choice, k)))]


def gif(*values: Any) -> list[Any]:
    """A film that goes on for ever."""
    from computing import gif_file

    path = film(values, gif_file)
    return [gr.Image(value=path, visible=True), taken_home(path)]


def mp4(*values: Any) -> list[Any]:
    """A film for players."""
    from computing import mp4_file

    return [gr.Image(visible=False), taken_home(film(values, mp4_file))]


def film(values: tuple[Any, ...], write: Any) -> str:
    """The file of a film of one direction."""
    from computing import along, file_name, film_side, find, generator, steps_along

    choice, visit, k, reach = asked_for(values)
    with shown_to_visitor("This film cannot be made"):
        found, side = find(choice, visit), film_side(generator(choice.model).config.img_resolution)
        steps, _ = steps_along(found, k, reach, FILM_FRAMES)
        path: str = write(along(choice, found, steps, visit.kept, side), file_name(choice, k), side)
        return path


def taken_home(path: str) -> Any:
    """A file that is offered."""
    return gr.File(value=path, visible=True, interactive=False)
