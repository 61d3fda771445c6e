# SPDX-License-Identifier: Apache-2.0
"""Curves of the five-seed study, where its results file is at hand."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any


NAME = "send_facts.json"
HERE = Path(__file__).resolve().parent
#: Beside the page, or in the repository that the page belongs to.
PLACES = (HERE / NAME, HERE.parents[1] / "benchmarks" / "results" / NAME)
MAX_BYTES = 20 * 2**20


def read_study(places: Iterable[Path] = PLACES) -> dict[str, Any] | None:
    """
    The results file, or nothing where it is missing or unreadable: the page does not depend on it.

    Args:
        places (`Iterable[Path]`, *optional*): where to look, the first that is there counts.
    """
    for path in places:
        try:
            if path.stat().st_size <= MAX_BYTES:
                found = json.loads(path.read_text(encoding="utf-8"))
                return found if isinstance(found, dict) else None
        except (OSError, ValueError):
            continue
    return None


def band(runs: Iterable[Iterable[float]]) -> tuple[list[float], list[float]]:
    """
    Mean and sample deviation of several curves, as long as the shortest of them.

    Args:
        runs (`Iterable[Iterable[float]]`): one curve per seed.
    """
    columns = list(zip(*(list(run) for run in runs), strict=False))
    return [mean(column) for column in columns], [stdev(column) if len(column) > 1 else 0.0 for column in columns]


def curves(study: Mapping[str, Any]) -> dict[str, list[list[float]]]:
    """
    Shares of wrong answers over the epochs by arm, one curve for each seed; what has another form is left out.

    Args:
        study (`Mapping`): of `read_study`.
    """
    rows = study.get("rows")
    found = {}
    for row in rows if isinstance(rows, list) else ():
        seeds = row.get("curves") if isinstance(row, Mapping) else None
        if isinstance(seeds, list) and seeds and all(map(_is_curve, seeds)):
            found[str(row.get("arm"))] = seeds
    return found


def _is_curve(values: Any) -> bool:
    return isinstance(values, list) and len(values) > 1 and all(_is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
