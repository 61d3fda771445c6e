# SPDX-License-Identifier: Apache-2.0
"""What a visitor is told of the libraries' errors."""

import gradio as gr
import pytest

from eigenhub.hub.space_events import MODEL, QUEUE, shown_to_visitor


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("\n no such model\nSee https://…"), "Cannot load it: no such model"),
        (KeyError("weight"), "Cannot load it: 'weight'"),
        (ValueError(), "Cannot load it: ValueError"),
        (RuntimeError("x" * 400), "Cannot load it: " + "x" * 300),
    ],
)
def test_the_first_line_of_an_error_is_shown(error, said):
    with pytest.raises(gr.Error) as shown, shown_to_visitor("Cannot load it"):
        raise error
    assert shown.value.message == said and shown.value.__cause__ is error


def test_errors_of_our_own_are_not_hidden():
    for error in (AttributeError("a slip"), gr.Error("already in words")):
        with pytest.raises(type(error)) as raised, shown_to_visitor("Cannot load it"):
            raise error
        assert raised.value is error


def test_models_run_one_at_a_time():
    assert MODEL.items() > QUEUE.items() and QUEUE["concurrency_limit"] == 1
