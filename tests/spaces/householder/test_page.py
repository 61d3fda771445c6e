# SPDX-License-Identifier: Apache-2.0
"""What follows a choice on the page: samples, tabs, layers."""

from dataclasses import replace

import gradio as gr
import numpy as np

from tests.spaces.tiny_gan import RANK, values_of


def test_a_page_from_its_beginning(space, choice, visit):
    shown = space.events.open_model(None, "grid", *values_of(choice), visit, 5)
    model, summary, gallery, number, label, other, layer, basis, _, status = shown[:10]
    assert model == space.names.SHAPES and "16 px" in summary and len(gallery.value) == 12 and number == 5
    assert not label.visible and other == space.names.SHAPES_BEFORE and layer.value == "b4.conv1"
    assert [name for _, name in basis.choices] == ["parameter", "jacobian", "aligned", "sefa"] and status == ""
    parts = shown[10:]
    sizes = space.sections.SIZES
    assert len(parts) == sum(sizes.values())
    sliders = parts[5 : sizes["sliders"]]
    assert [slider.visible for slider in sliders] == [True] * RANK + [False] * (16 - RANK)
    start = sizes["sliders"] + sizes["strip"]
    assert parts[sizes["sliders"] : start] == [gr.skip()] * 2
    grid, factors, effects = parts[start : start + 3]
    assert grid.width == 5 * 134 - 6 and factors.visible and effects.count("<tr>") == RANK + 1


def test_tabs_follow_the_choice(space, choice, visit):
    sizes = space.sections.SIZES
    steps = [1.0, 0.0, 0.0, *[0.0] * 13]
    for name in space.sections.TABS:
        tab, *parts = space.events.opener(name)(*values_of(choice), visit, 1, 2.0, *steps)
        drawn = [part != gr.skip() for part in parts[sizes["sliders"] :]]
        before = sum(
            sizes[tab]
            for tab in space.sections.TABS[1:]
            if space.sections.TABS.index(tab) < space.sections.TABS.index(name)
        )
        size = sizes[name] if name != "sliders" else 0
        assert tab == name and drawn == [before <= i < before + size for i in range(len(drawn))]
        assert [slider.value for slider in parts[5:8]] == [1.0, 0.0, 0.0]
    loading = space.events.opener("grid")(*values_of(replace(choice, layer="")), visit, None, None, *steps)
    assert loading == ["grid", *[gr.skip()] * sum(sizes.values())]


def test_samples_are_picked_and_redrawn_with_the_same_edit(space, choice, visit):
    steps = [2.0, 0.0, 0.0, *[0.0] * 13]
    rest = ["sliders", *values_of(choice), visit, 0, None, *steps]
    event = gr.SelectData(None, {"index": 4, "value": None})
    number, before, after, *_ = space.events.pick(event, 12, *rest)
    assert number == 16 and not np.array_equal(np.array(before), np.array(after))
    first, gallery, number, *_ = space.events.draw_more(0, *rest)
    assert (first, number, gallery.selected_index, gallery.value[0]["caption"]) == (12, 12, 0, "12")
    gallery, number, *_ = space.events.draw_samples(0, *rest)
    assert (number, gallery.selected_index) == (3, 3)
