# SPDX-License-Identifier: Apache-2.0
"""Generators, directions and their effects, as HTML and as words in menus."""

from html import escape
from typing import Any

from finding import Found
from names import BASES, FACTORS, JOIN, spoken
from places import editable_layers, ranges
from visits import Choice, Visit

from eigenhub.hub.space import html_table, tiles


def model_tiles(model: Any) -> str:
    """A generator in four tiles."""
    config = model.config
    projected, layers = config.projected_names, editable_layers(model)
    count = sum(p.numel() for p in model.parameters())
    kind = "learned" if config.projector_singular_values == "learned" else "equal"
    return tiles(
        [
            ("Images", f"{config.img_resolution} px", f"{config.img_channels} channels, {count:,} parameters"),
            (
                "Layers with projectors",
                str(len(projected)),
                f"of {len(config.style_layers)}" if projected else "none: its singular vectors and SeFa can be used",
            ),
            (
                "Directions per layer",
                str(config.projector_rank) if projected else "10",
                f"orthogonal, {kind} singular values" if projected else "at most",
            ),
            (
                "Style latent",
                f"{config.w_dim} numbers",
                f"layers from {layers[0].resolution} to {layers[-1].resolution} px",
            ),
        ]
    )


def layer_choices(model: Any, name: str, visit: Visit) -> list[tuple[str, str]]:
    """Layers and ranges for a menu, with the visitor's names for their directions."""
    choices = []
    for group in [*([layer] for layer in editable_layers(model)), *ranges(model)]:
        place = JOIN.join(layer.name for layer in group)
        sizes = dict.fromkeys([group[0].resolution, group[-1].resolution])
        words = f"{' to '.join(map(str, sizes))} px, {spoken(place) if len(group) == 1 else f'{len(group)} layers together'}"
        named = ", ".join(visit.names_in(name, place))
        choices.append((f"{words}: {named}" if named else words, place))
    return choices


def direction_title(choice: Choice, visit: Visit, found: Found, k: int) -> str:
    """Number, name and effect of a direction."""
    name = visit.name_of(choice.place, k)
    mark = "dead" if found.dead[k] else f"{found.effects[k]:.1%}"
    return f"{k + 1} · {name} · {mark}" if name else f"{k + 1} · {mark}"


def effect_table(choice: Choice, visit: Visit, found: Found) -> str:
    """What each direction does to pixels, dead ones marked."""
    strongest = max(found.effects)
    rows = [
        [
            f"{k + 1}  {visit.name_of(choice.place, k)}",
            f"{found.effects[k]:.2%}",
            f"{found.effects[k] / strongest:.0%}",
            "dead: next to nothing to see" if found.dead[k] else "",
        ]
        for k in range(found.count)
    ]
    return html_table(["Direction", "Mean change of a pixel", "of the strongest", ""], rows)


def factor_table(choice: Choice, visit: Visit, found: Found) -> str:
    """Which known factor each direction moves: a table whose cells are the darker the more it does."""
    if found.factors is None:
        return ""
    largest = max(found.factors.max().item(), 1e-9)
    head = "".join(f"<th>{escape(name)}</th>" for name in ("Direction", *FACTORS.values()))
    lines = []
    for k, row in enumerate(found.factors.tolist()):
        title = escape(f"{k + 1}  {visit.name_of(choice.place, k)}")
        cells = "".join(f'<td style="--share: {100 * value / largest:.0f}%">{value:.0%}</td>' for value in row)
        lines.append(f"<tr><td>{title}</td>{cells}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="space-table heat">{table}</div>'


def names_table(name: str, visit: Visit) -> str:
    """All names of this visit for a generator."""
    rows = [
        [text, spoken(layer), str(k + 1), BASES[basis]]
        for (model, layer, basis), names in visit.names.items()
        if model == name
        for k, text in names.items()
    ]
    if not rows:
        return "<p>No direction of this generator has a name yet.</p>"
    return html_table(["Name", "Layer", "Direction", "Basis"], rows)
