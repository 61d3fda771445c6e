# SPDX-License-Identifier: Apache-2.0
"""How the events of a Space wait for each other, and how a visitor learns what went wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


PRIVATE: dict[str, Any] = {"api_visibility": "private"}
# Whatever loads or runs a model waits in one queue: two visitors at once would need twice the memory.
QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
# gradio's default, "once", drops a click while it takes the last one for unfinished, which it may do for too long.
MODEL = QUEUE | {"trigger_mode": "multiple"}
BUTTON: dict[str, Any] = {"variant": "primary", "elem_classes": "space-low", "min_width": 140}


@contextmanager
def shown_to_visitor(what: str) -> Iterator[None]:
    """Turn what libraries say about a bad name or a misfit into one message on the page.

    Args:
        what (`str`): what cannot be done; the first line of the library's message follows.
    """
    import gradio as gr

    try:
        yield
    except gr.Error:  # in words already
        raise
    except (ImportError, OSError, ValueError, RuntimeError, KeyError) as error:
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise gr.Error(f"{what}: {first_line[:300]}") from error
