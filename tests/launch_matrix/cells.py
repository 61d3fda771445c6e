# SPDX-License-Identifier: Apache-2.0
"""One cell of the table."""

import re
from dataclasses import dataclass
from typing import Literal

from tests.support.processes import Finished


State = Literal["yes", "refused", "n/a", "no"]
LONGEST = 160  # characters of a message in the table
ERROR = re.compile(
    r"^(?:\[rank\d+\]:)?\s*(?P<text>\S+\.py: error: .*|[\w.]*(?:Error|Exception|Interrupt|Exit)\b.*)$", re.MULTILINE
)


@dataclass(frozen=True)
class Cell:
    """What was found.

    Args:
        state (`str`): `"yes"`, `"refused"` (early, with a message that names the engine), `"n/a"` or `"no"`.
        text (`str`, *optional*, defaults to `""`): message, reason, first line of the error, or what is to be known of a yes.
        date (`str`, *optional*, defaults to `""`): day of the measurement.
    """

    state: State
    text: str = ""
    date: str = ""

    def comparable(self) -> tuple[str, str]:
        """State and text without measured numbers and paths, which differ between machines."""
        return self.state, re.sub(r"\d+\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+|/[\w./+-]+", "#", self.text)


def broken(finished: Finished) -> Cell:
    """The cell of a run that did not end well.

    Args:
        finished (`Finished`): with the exit code and what was printed.
    """
    found = [match["text"] for match in ERROR.finditer(finished.stderr) if "ChildFailedError" not in match["text"]]
    text = found[0].strip() if found else f"exit code {finished.returncode}"
    refused = re.search(r"\b(FSDP|DEEPSPEED|DeepSpeed|ZeRO)", text) is not None and "Traceback" not in before(finished)
    return Cell("refused" if refused else "no", shortened(text))


def before(finished: Finished) -> str:
    """What the script itself printed: a launcher adds a traceback of its own when a process ends badly.

    Args:
        finished (`Finished`): with what was printed.
    """
    return finished.stderr.split("torch/distributed/elastic", 1)[0]


def shortened(text: str) -> str:
    """A message that fits into the table.

    Args:
        text (`str`): the message.
    """
    text = re.sub(r"^\S+\.py: error: |^ValueError: ", "", text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
