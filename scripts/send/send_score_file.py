# SPDX-License-Identifier: Apache-2.0
"""The file of scores while it grows, one line per prompt, and the parquet file that it becomes."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def partial_path(output: Path) -> Path:
    """Where the scores are kept until all are there.

    Args:
        output (`Path`): the parquet file.
    """
    return output.with_name(f"{output.name}.partial.jsonl")


def check_output(output: Path, fresh: bool) -> None:
    """Raises if a finished file would be written over.

    Args:
        output (`Path`): the parquet file.
        fresh (`bool`): whether that is what was asked for.
    """
    if output.suffix != ".parquet":
        raise ValueError(f"--output must end in .parquet, got {output}")
    if output.exists() and not fresh:
        raise ValueError(f"--output: {output} is there already: pass --fresh to score again, or another name")


class PartialFile:
    """Rows on disk as they come, behind a line with the settings; what a kill has cut short is dropped.

    Args:
        output (`Path`): the parquet file.
        settings (`Mapping`): that a continued run must share, as JSON.
        batch (`int`): rows are kept in whole batches, so that each is drawn with the same random numbers again.
        fresh (`bool`): begin anew.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], batch: int, fresh: bool) -> None:
        self.output, self.path = output, partial_path(output)
        self.header = json.dumps({"settings": settings}, sort_keys=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        lines = self._whole_lines() if self.path.is_file() and not fresh else []
        if lines:
            self._check_settings(json.loads(lines[0])["settings"], settings)
        self.done = max(0, len(lines) - 1) // batch * batch
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        temporary.write_text("".join(f"{line}\n" for line in [self.header, *lines[1 : 1 + self.done]]))
        os.replace(temporary, self.path)

    def _whole_lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").rpartition("\n")[0].split("\n")

    def _check_settings(self, written: Mapping[str, Any], current: Mapping[str, Any]) -> None:
        differing = sorted(name for name in current if written.get(name) != current[name])
        if differing:
            pairs = "; ".join(f"{name}: {written.get(name)!r} there, {current[name]!r} here" for name in differing)
            raise SystemExit(f"{self.path} was begun by another run ({pairs}): pass --fresh to begin anew")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends rows and hands them to the operating system at once.

        Args:
            rows (`Sequence[Mapping]`): as JSON takes them.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    def finish(self) -> list[dict[str, Any]]:
        """Writes the parquet file, whole or not at all, and returns its rows."""
        from datasets import Dataset

        rows = [json.loads(line) for line in self._whole_lines()[1:]]
        temporary = self.output.with_name(f"{self.output.name}.tmp")
        Dataset.from_list(rows).to_parquet(temporary)
        os.replace(temporary, self.output)
        self.path.unlink()
        return rows

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Puts the summary beside the parquet file.

        Args:
            summary (`Mapping`): as JSON takes it.
        """
        self.output.with_suffix(".json").write_text(json.dumps(summary, indent=2) + "\n")
