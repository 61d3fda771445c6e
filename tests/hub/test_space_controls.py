# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import gradio as gr
import pytest

from eigenhub.hub import space_controls
from eigenhub.hub.space_controls import LiveSlider, pick_or_type


@pytest.mark.parametrize(("sent", "taken"), [(15, 10), (-15, -10), (3.5, 3.5)])
def test_a_value_from_before_the_bounds_changed_is_moved_inside(sent, taken):
    with pytest.raises(gr.Error) if sent != taken else pytest.MonkeyPatch.context():
        gr.Slider(-10, 10).preprocess(sent)
    assert LiveSlider(-10, 10).preprocess(sent) == taken


def test_programs_may_send_what_a_visitor_may_type():
    menu = pick_or_type({"embedded:a": "The embedded one"}, "embedded:a", "Model", elem_id="model")
    assert menu.api_info() == {"type": "string"}
    assert menu.preprocess("someone/model") == "someone/model"


def test_pages_know_the_components_by_the_names_of_gradio():
    assert [kind().get_block_name() for kind in (LiveSlider, space_controls.OpenDropdown)] == ["slider", "dropdown"]


def test_no_interface_file_is_written():
    assert not Path(space_controls.__file__).with_suffix(".pyi").exists()
