# SPDX-License-Identifier: Apache-2.0
"""Controls that more than one Space has."""

from abc import ABCMeta
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component


def kind_of(component: type[Component], name: str, **methods: Callable[..., Any]) -> Any:
    """
    A component that differs from one of gradio's in a few methods.

    Args:
        component (`type`): of gradio.
        name (`str`): of the new class.
        methods (`Callable`): in place of those of the same names.
    """
    # Past gradio's metaclass, which writes an interface file beside the source of each class that is made through it.
    # What `is_template` is drawn by the page as its base is.
    attributes = {"__module__": __name__, "is_template": True, **methods}
    return ABCMeta.__new__(type(component), name, (component,), attributes)


def moved_inside(slider: gr.Slider, payload: float) -> float:
    """A value that was sent just before the bounds became narrower, which gradio would refuse, within those of now."""
    return gr.Slider.preprocess(slider, min(max(payload, slider.minimum), slider.maximum))


def any_text(_: gr.Dropdown) -> dict[str, Any]:
    """What programs may send to a menu in which anything can be typed; gradio names its entries only."""
    return {"type": "string"}


LiveSlider = kind_of(gr.Slider, "LiveSlider", preprocess=moved_inside)
OpenDropdown = kind_of(gr.Dropdown, "OpenDropdown", api_info=any_text)


def pick_or_type(
    names: Mapping[str, str],
    value: str,
    label: str,
    *,
    info: str = "Pick one, or type a Hub id or folder",
    min_width: int = 260,
    scale: int = 3,
    elem_id: str,
) -> gr.Dropdown:
    """
    A menu of embedded things, in which any other can be named.

    Args:
        names (`Mapping[str, str]`): name of each to what a visitor reads.
        value (`str`): name that is chosen first.
        label (`str`): what is named.
        info (`str`, *optional*): how.
        min_width (`int`, *optional*, defaults to 260): in pixels.
        scale (`int`, *optional*, defaults to 3): width beside that of its neighbours.
        elem_id (`str`): of the page.
    """
    return OpenDropdown(
        [(text, name) for name, text in names.items()],
        value=value,
        allow_custom_value=True,
        label=label,
        info=info,
        min_width=min_width,
        scale=scale,
        elem_id=elem_id,
    )


def thumbnails(**options: Any) -> gr.Gallery:
    """
    Pictures to click, each as large as the page allows.

    Args:
        options (`Any`): of `gr.Gallery`, such as `columns` and `elem_id`.
    """
    return gr.Gallery(
        show_label=False,
        interactive=False,
        height="auto",
        allow_preview=False,
        format="png",
        buttons=[],
        elem_classes="space-thumbnails",
        **options,
    )


def sketchpad() -> tuple[gr.Sketchpad, gr.Button]:
    """A place to draw a digit, folded away, and the button that takes the drawing."""
    with gr.Accordion("Draw one", open=False):
        pad = gr.Sketchpad(
            show_label=False,
            type="pil",
            image_mode="RGBA",
            canvas_size=(256, 256),
            layers=False,
            brush=gr.Brush(default_size=22, colors=["#4f46e5"], color_mode="fixed"),
            elem_id="sketch",
        )
        return pad, gr.Button("Use this drawing")
