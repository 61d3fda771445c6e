# SPDX-License-Identifier: Apache-2.0
"""What the tabs show of a choice. A tab that is not open is left as it is until it is opened."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr
from names import BASES, MAX_DIRECTIONS, STRIP_FRAMES, spoken
from visits import Choice, Visit


TABS = ("sliders", "strip", "grid", "sefa", "names")
#: Components of each tab that follow the choice; see the functions below.
SIZES = {"sliders": 5 + MAX_DIRECTIONS, "strip": 2, "grid": 3, "sefa": 4, "names": 1}
GRID_FRAMES = 5


def sections(
    active: str, choice: Choice, visit: Visit, values: Sequence[float] | None, k: int | None, reach: float | None
) -> list[Any]:
    """
    Updates for all tabs.

    Args:
        active (`str`): the tab that is open; the sliders always follow.
        choice (`Choice`): sample and layer.
        visit (`Visit`): names and edits that stay.
        values (`Sequence[float]`, *optional*): of the sliders; they go back to zero by default.
        k (`int`, *optional*): direction of the strip; the first by default.
        reach (`float`, *optional*): of the strip; that of the sliders by default.
    """
    shown = sliders(choice, visit, values, k, reach)
    for tab in TABS[1:]:
        if tab != active:
            shown += [gr.skip()] * SIZES[tab]
        elif tab == "strip":
            shown += strip(choice, visit, k or 0, reach)
        else:
            shown += {"grid": grid, "sefa": sefa, "names": names}[tab](choice, visit)
    return shown


def sliders(
    choice: Choice, visit: Visit, values: Sequence[float] | None, k: int | None, reach: float | None
) -> list[Any]:
    """Images before and after, menus of directions for two other tabs, the reach of the strip, and the sliders."""
    from computing import direction_title, find, generator, reach_of, to_image, unedited

    found, far = find(choice, visit), reach_of(generator(choice.model), choice.layer)
    titles = [direction_title(choice, visit, found, i) for i in range(found.count)]
    values = [0.0] * found.count if values is None else list(values)[: found.count]
    menu = gr.Dropdown(choices=[(title, i) for i, title in enumerate(titles)], value=min(k or 0, found.count - 1))
    moved = after(choice, visit, values)
    rows = [
        gr.Slider(
            label=titles[i] if i < found.count else "",
            minimum=-far,
            maximum=far,
            step=step_of(far),
            value=values[i] if i < found.count else 0.0,
            visible=i < found.count,
        )
        for i in range(MAX_DIRECTIONS)
    ]
    strip_reach = gr.Slider(minimum=0, maximum=2 * far, step=0.25, value=far if reach is None else reach)
    return [to_image(unedited(choice), shown_side(choice)), moved, menu, menu, strip_reach, *rows]


def step_of(far: float) -> float:
    """Of a slider."""
    return 0.1 if far <= 10 else 0.25


def after(choice: Choice, visit: Visit, values: Sequence[float]) -> Any:
    """The sample with the edits that stay and those of the sliders."""
    from computing import LARGE_SIDE, along, find, to_image

    found = find(choice, visit)
    steps = [float(value or 0) for value in values[: found.count]]
    return to_image(along(choice, found, [steps], visit.kept, LARGE_SIDE)[0], shown_side(choice))


def shown_side(choice: Choice) -> int:
    """Side of a single image."""
    from computing import film_side, generator

    return film_side(generator(choice.model).config.img_resolution)


def strip(choice: Choice, visit: Visit, k: int, reach: float | None) -> list[Any]:
    """Seven images along one direction, and what they are in words."""
    from computing import along, find, generator, reach_of, signed, steps_along
    from computing import grid as picture

    found = find(choice, visit)
    k = min(k, found.count - 1)
    far = reach_of(generator(choice.model), choice.layer) if reach is None else reach
    steps, alphas = steps_along(found, k, far, STRIP_FRAMES)
    image = picture([along(choice, found, steps, visit.kept)], [signed(alpha) for alpha in alphas])
    return [image, sentence(choice, visit, found, k)]


def sentence(choice: Choice, visit: Visit, found: Any, k: int) -> str:
    """What a strip shows; names may be those of strangers."""
    name = visit.name_of(choice.place, k)
    dead = " Next to nothing changes: this direction is dead." if found.dead[k] else ""
    return (
        f"<p>Sample {choice.number}, {spoken(choice.layer)}, direction {k + 1}{f', <b>{escape(name)}</b>' if name else ''}. "
        f"Below each image, how far the style moves.{dead}</p>"
    )


def grid(choice: Choice, visit: Visit) -> list[Any]:
    """All directions of the layer, their effects, and the factors that they move."""
    from computing import effect_table, factor_table, find

    found = find(choice, visit)
    factors = factor_table(choice, visit, found)
    return [
        sheet(choice, visit, found),
        gr.HTML(value=factors, visible=bool(factors)),
        effect_table(choice, visit, found),
    ]


def sheet(choice: Choice, visit: Visit, found: Any, count: int | None = None) -> Any:
    """A row of images for each direction; the image in the middle is the same for all and drawn once."""
    from computing import along, direction_title, generator, reach_of, rows_around, signed, steps_along
    from computing import grid as picture

    far = reach_of(generator(choice.model), choice.layer)
    rows = [steps_along(found, k, far, GRID_FRAMES) for k in range(min(found.count, count or found.count))]
    middle = GRID_FRAMES // 2
    steps = [step for row, _ in rows for i, step in enumerate(row) if i != middle]
    images = along(choice, found, [[0.0] * found.count, *steps], visit.kept)
    drawn = rows_around(images[:1], images[1:].split(GRID_FRAMES - 1))
    titles = [direction_title(choice, visit, found, k) for k in range(len(drawn))]
    return picture(drawn, [signed(alpha) for alpha in rows[0][1]], titles)


def sefa(choice: Choice, visit: Visit) -> list[Any]:
    """The chosen directions beside those of SeFa on the unprojected generator, at equal steps."""
    from computing import find, generator, unprojected

    plain = Visit(visit.names, visit.saved)  # edits of one generator say nothing of another
    found = find(choice, plain)
    before = unprojected(choice.model, choice.other)
    theirs = replace(choice, model=choice.other if before is not None else choice.model, basis="sefa", other="")
    other = find(theirs, plain)
    words = (
        "on the generator before projection"
        if before is not None
        else "on the weights of this same generator: no unprojected one is named above"
        if generator(choice.model).config.projected_names
        else "on this generator, which has no projectors"
    )
    return [
        sheet(choice, plain, found),
        spread(f"Chosen above: {BASES[choice.basis]}", found),
        sheet(theirs, plain, other, found.count),
        spread(f"SeFa {words}", other, found.count),
    ]


def spread(title: str, found: Any, count: int | None = None) -> str:
    """How many directions of a layer can be seen."""
    count = min(found.count, count or found.count)
    effects, dead = found.effects[:count], sum(found.dead[:count])
    return (
        f"**{title}.** {count} directions, {f'{dead} of them dead' if dead else 'none of them dead'}; "
        f"mean change of a pixel {min(effects):.1%} to {max(effects):.1%}."
    )


def names(choice: Choice, visit: Visit) -> list[Any]:
    """All names of this generator."""
    from computing import names_table

    return [names_table(choice.model, visit)]
