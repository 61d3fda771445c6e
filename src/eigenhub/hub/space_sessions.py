# SPDX-License-Identifier: Apache-2.0
"""What each page of a Space has going, so that it can stop its own work and a page that is closed does not compute on."""

from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self

import gradio as gr


class Session:
    """
    One piece of work of one page. gradio's own way to cancel an event lets a last report overwrite what the page says then.

    Args:
        request (`gr.Request`): of the page.
        work (`str`, *optional*, defaults to `"run"`): what it does, where a page has more than one thing going.
    """

    _going: ClassVar[set[tuple[str | None, str]]] = set()

    def __init__(self, request: gr.Request, work: str = "run") -> None:
        self.key = (request.session_hash, work)

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
        """Lets all work of a page end with its next report; for a page that is closed, too.

        Args:
            request (`gr.Request`): of the page.
        """
        for key in [key for key in cls._going if key[0] == request.session_hash]:
            cls._going.discard(key)

    @classmethod
    def ender(cls, work: str) -> Callable[[gr.Request], None]:
        """An event that ends one kind of work of a page.

        Args:
            work (`str`): which.
        """

        def end(request: gr.Request) -> None:
            cls._going.discard((request.session_hash, work))

        return end
