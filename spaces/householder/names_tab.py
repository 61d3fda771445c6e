# SPDX-License-Identifier: Apache-2.0
"""The tab on which directions get names, and names travel."""

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from choosing import basis_menu, chosen
from controls import Place
from names import MAX_NAME
from sections import sections
from visits import Choice, Visit

from eigenhub.hub.space import on_gpu
from eigenhub.hub.space_events import BUTTON, MODEL, PRIVATE, shown_to_visitor


INTRODUCTION = (
    "Nothing in the generator knows what a direction means: you do. Names stay with this visit, stand in the menus and beside the "
    "sliders, and are saved with their vectors in an archive that `load_directions` of eigenhub reads. To publish one, upload its "
    "folder `directions` to the repository of the generator under your own account."
)


@dataclass
class Names:
    """Components of the tab."""

    direction: gr.Dropdown
    name: gr.Textbox
    give: gr.Button
    suggest: gr.Button
    table: gr.HTML
    save: gr.Button
    archive: gr.File
    upload: gr.File
    origin: gr.Textbox
    fetch: gr.Button


def build() -> Names:
    """Lay the tab out."""
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        direction = gr.Dropdown([], label="Direction", min_width=200, elem_id="named-direction")
        name = gr.Textbox(
            label="Name", max_length=MAX_NAME, placeholder="such as: left to right", min_width=200, elem_id="name"
        )
        give = gr.Button("Name it", elem_id="give", **BUTTON)
        suggest = gr.Button("Name by known factors", min_width=180, elem_id="suggest", elem_classes="space-low")
    table = gr.HTML(elem_id="names-table", elem_classes="space-html")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            save = gr.Button("Save names and directions", elem_id="save")
            archive = gr.File(label="To download", visible=False, height=90, elem_id="archive")
        with gr.Column(min_width=280), gr.Accordion("Load names of others", open=False):
            upload = gr.File(label="directions.zip", file_types=[".zip"], height=110, elem_id="upload-names")
            origin = gr.Textbox(
                label="Or a Hub id or folder", info="that holds a folder `directions`", elem_id="origin"
            )
            fetch = gr.Button("Load", elem_id="fetch")
    return Names(direction, name, give, suggest, table, save, archive, upload, origin, fetch)


def wire(parts: Names, choice: list[Any], visit: gr.State, active: gr.State, place: Place, shown: list[Any]) -> None:
    """Wire its events."""
    after = [visit, place.layer, place.basis, *shown]
    quiet: dict[str, Any] = {"show_progress": "hidden", **PRIVATE, **MODEL}
    gr.on(
        [parts.give.click, parts.name.submit],
        on_gpu(give),
        [active, *choice, visit, parts.direction, parts.name],
        [parts.name, *after],
        api_name="give_name",
        **quiet,
    )
    parts.suggest.click(on_gpu(suggest), [active, *choice, visit], after, api_name="suggest_names", **quiet)
    parts.save.click(on_gpu(save), [*choice, visit], parts.archive, api_name="save_names", **quiet)
    parts.upload.upload(
        on_gpu(load_archive), [active, *choice, visit, parts.upload], after, api_name="load_archive", **quiet
    )
    gr.on(
        [parts.fetch.click, parts.origin.submit],
        on_gpu(load_named),
        [active, *choice, visit, parts.origin],
        after,
        api_name="load_named",
        **quiet,
    )


def give(active: str, *values: Any) -> list[Any]:
    """One more name; an empty one takes the old name away."""
    *place, visit, k, name = values
    choice = chosen(place, visit)
    return ["", *told(active, choice, visit.named(choice.place, int(k or 0), name or ""))]


def suggest(active: str, *values: Any) -> list[Any]:
    """Names from the factors that directions move; names that were given stay."""
    *place, visit = values
    choice = chosen(place, visit)
    from computing import find, suggested

    with shown_to_visitor("No names can be found"):
        found = find(choice, visit)
        if found.factors is None:
            raise gr.Error(
                "Factors are known for the embedded generators only: look at the strip and name what you see."
            )
        names = suggested(found)
        if not names:
            raise gr.Error("No direction of this layer moves one factor much more than the others.")
        for k, name in names.items():
            if not visit.name_of(choice.place, k):
                visit = visit.named(choice.place, k, name)
    return told(active, choice, visit)


def save(*values: Any) -> Any:
    """The archive."""
    *place, visit = values
    from computing import write_archive

    with shown_to_visitor("Names cannot be saved"):
        path, _ = write_archive(chosen(place, visit), visit)
        return gr.File(value=path, visible=True, interactive=False)


def load_archive(active: str, *values: Any) -> list[Any]:
    """An archive that was uploaded."""
    *place, visit, path = values
    from computing import read_archive

    with shown_to_visitor("This archive cannot be used"):
        return loaded(active, chosen(place, visit), visit, read_archive(path))


def load_named(active: str, *values: Any) -> list[Any]:
    """Directions of a folder or a repository."""
    *place, visit, origin = values
    name = (origin or "").strip()
    if not name:
        raise gr.Error("Name a Hub id or a folder first.")
    from computing import load_names

    with shown_to_visitor(f"Cannot load directions of {name!r}"):
        return loaded(active, chosen(place, visit), visit, load_names(name))


def loaded(active: str, choice: Choice, visit: Visit, given: Any) -> list[Any]:
    """The visit with loaded directions, at the first layer that has some."""
    from computing import fitting, generator, taken

    visit = taken(choice, visit, fitting(generator(choice.model), given))
    layer = choice.layer if choice.layer in given else next(iter(given))
    return told(active, replace(choice, layer=layer, basis="saved"), visit)


def told(active: str, choice: Choice, visit: Visit) -> list[Any]:
    """Menus and tabs after a change of names."""
    from computing import generator, layer_choices

    with shown_to_visitor("These names cannot be shown"):
        model = generator(choice.model)
        layers = gr.Dropdown(choices=layer_choices(model, choice.model, visit), value=choice.layer)
        bases, choice = basis_menu(choice, visit)
        return [visit, layers, bases, *sections(active, choice, visit, None, 0, None)]
