# SPDX-License-Identifier: Apache-2.0
"""What programs call: through hidden components, because only through those do images and files travel."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import api
import gradio as gr

from eigenhub.hub.space_events import QUEUE


def build() -> None:
    """Wire the endpoints."""
    endpoint(api.sample, [gr.Gallery(label="Samples", format="png", visible=False)])
    films = [gr.Gallery(label="Images", format="png", visible=False), gr.File(label="Film", visible=False)]
    endpoint(api.traverse, films)
    endpoint(api.directions, [gr.JSON(label="Directions", visible=False)])
    file = gr.File(label="Checkpoint", visible=False)
    endpoint(
        api.convert, [gr.File(label="Archive", visible=False), gr.JSON(label="Report", visible=False)], {"file": file}
    )


def endpoint(function: Callable[..., Any], outputs: list[Any], given: dict[str, Any] | None = None) -> None:
    """
    A named endpoint whose arguments and defaults are those of a function.

    Args:
        function (`Callable`): of `api`.
        outputs (`list[Any]`): components for what it returns.
        given (`dict[str, Any]`, *optional*): components of arguments that are no words or numbers.
    """
    inputs = []
    for name, parameter in signature(function).parameters.items():
        kind: Any = gr.Textbox if isinstance(parameter.default, str) else gr.Number
        inputs.append((given or {}).get(name) or kind(parameter.default, label=name, visible=False))
    gr.Button(visible=False).click(function, inputs, outputs, api_name=function.__name__, **QUEUE)
