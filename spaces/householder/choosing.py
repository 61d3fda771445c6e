# SPDX-License-Identifier: Apache-2.0
"""What stands in the controls, brought to what the generator has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from names import BASES
from visits import Choice, Visit

from eigenhub.hub.space_events import shown_to_visitor


def chosen(values: Sequence[Any], visit: Visit) -> Choice:
    """
    What stands in the controls, in a basis that the layer has: an event can be sent before the menu has changed.

    Args:
        values (`Sequence[Any]`): see [`Choice`].
        visit (`Visit`): with directions that were loaded.
    """
    choice = Choice.of(*values)
    if not choice.layer:  # the page is still loading
        return choice
    with shown_to_visitor("This layer cannot be shown"):
        return basis_menu(choice, visit)[1]


def basis_menu(choice: Choice, visit: Visit) -> tuple[Any, Choice]:
    """The bases of a layer, with loaded directions first; and the choice, in the same basis if the layer has it."""
    from computing import bases_of, generator

    bases = bases_of(generator(choice.model), choice.layer, choice.other)
    if (choice.model, choice.layer) in visit.saved:
        bases = ["saved", *bases]
    # in an event a component is an update without attributes, so the value is told beside it
    chosen = choice.basis if choice.basis in bases else bases[0]
    menu = gr.Dropdown(choices=[(BASES[name], name) for name in bases], value=chosen)
    return menu, replace(choice, basis=chosen)
