# SPDX-License-Identifier: Apache-2.0
"""One cell of the table, and how a probe becomes one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


State = Literal["yes", "no", "n/a"]
LONGEST = 200  # characters of a reason: the rest of an error helps nobody in a table
PATIENCE = 1200  # seconds until a process is given up; a busy machine is no failure of a method


class DoesNotApply(Exception):
    """Raised by a probe: the column cannot mean anything for this method, for the reason given."""


class Failed(Exception):
    """Raised by a probe for a failure of another process, which comes in words already."""


@dataclass(frozen=True)
class Cell:
    """What a probe found.

    Args:
        state (`str`): `"yes"`, `"no"` or `"n/a"`.
        text (`str`, *optional*, defaults to `""`): why not; or what is to be known of a yes.
    """

    state: State
    text: str = ""

    def comparable(self) -> tuple[str, str]:
        """State and text without measured decimals, which differ between machines, and without paths."""
        return self.state, re.sub(r"-?\d+\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+|/[\w./+-]+", "#", self.text)


def first_line(error: BaseException) -> str:
    """Kind of an error and the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def cell_of(probe: Callable[[], str | None]) -> Cell:
    """Run a probe: what it raises is a no, what it returns is the note of a yes.

    Args:
        probe (`Callable`): raises if the method cannot do it.
    """
    try:
        return Cell("yes", probe() or "")
    except DoesNotApply as reason:
        return Cell("n/a", str(reason))
    except Failed as failure:
        return Cell("no", shortened(str(failure)))
    except (Exception, SystemExit) as error:  # a script or a Space may exit; the other cells are measured all the same
        return Cell("no", first_line(error))
