# SPDX-License-Identifier: Apache-2.0
"""Which pages have a run going, so that each can stop its own and a page that is closed does not compute on."""

from types import TracebackType
from typing import Any, Self

import gradio as gr


# One run at a time: two would take turns on the same cores.
QUEUED: dict[str, Any] = {"concurrency_id": "federation", "concurrency_limit": 1}


class Session:
    """
    The run of one page. gradio's own way to cancel an event lets a last report overwrite what the page says then.

    Args:
        request (`gr.Request`): of the page.
    """

    _going: set[str | None] = set()

    def __init__(self, request: gr.Request) -> None:
        self.key = request.session_hash

    def __enter__(self) -> Self:
        self._going.add(self.key)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._going.discard(self.key)

    @property
    def goes_on(self) -> bool:
        """Whether nobody has stopped it."""
        return self.key in self._going

    @classmethod
    def end(cls, request: gr.Request) -> None:
        """Let the run of a page end with its next report."""
        cls._going.discard(request.session_hash)
