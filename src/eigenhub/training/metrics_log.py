# SPDX-License-Identifier: Apache-2.0
"""Metrics as JSON lines: one object per logged step, appended as it happens, cut back when a run resumes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from eigenhub.files import append_line, read_text, write_text


class MetricsLog:
    """
    Writes rows with a `step` to a file.

    Args:
        path (`Path`): the file.
        resume_step (`int`, *optional*, defaults to 0):
            Rows after this step are dropped first: a killed run wrote them after its last checkpoint.
        enabled (`bool`, *optional*, defaults to `True`): False on all processes but the main one.
    """

    def __init__(self, path: Path, resume_step: int = 0, enabled: bool = True) -> None:
        self.path = path
        self.enabled = enabled
        if enabled:
            self._cut_back(resume_step)

    def write(self, row: Mapping[str, float | int]) -> None:
        """Appends one row and hands it to the operating system at once."""
        if self.enabled:
            append_line(self.path, json.dumps(row))

    def last(self) -> dict:
        """The newest row, possibly of the run that was resumed; empty if there is none or the log is not enabled."""
        rows = read_metrics(self.path) if self.enabled else []
        return rows[-1] if rows else {}

    def _cut_back(self, step: int) -> None:
        kept = [row for row in read_metrics(self.path) if row["step"] <= step] if self.path.exists() else []
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))


def read_metrics(path: Path) -> list[dict]:
    """All rows of a metrics file; a last line cut short by a kill is left out, any other damage is a `ValueError`."""
    return list(_whole_rows(path, read_text(path)))


def _whole_rows(path: Path, text: str) -> Iterator[dict]:
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ValueError(f"{path}, line {number}: must be an object with a `step`, got {line[:80]!r}")
        yield row
