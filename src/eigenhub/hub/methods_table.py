# SPDX-License-Identifier: Apache-2.0
"""The table of methods in README and docs: how each is used and loaded, and what we measured."""

from typing import Any

import yaml

from eigenhub.hub.resources import find
from eigenhub.hub.results import load_results
from eigenhub.methods import METHODS, Method


FIELDS = ("use", "load", "headline")
HEADER = ("method", "kind", "in one line, and loaded again", "look", "status", "what we measured")


def load_row(method: Method) -> dict[str, str]:
    """What a method's `row.yaml` says, with measured figures in their places.

    Args:
        method (`Method`): row of `METHODS`.

    Returns:
        `dict[str, str]`: `use` and `load` (one line of Python each) and `headline`, in which `{id}` or `{id:format}` has
        become the measured figure of that id in the method's results file.
    """
    path = find(method.row)
    row: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(row, dict) or sorted(row) != sorted(FIELDS):
        raise ValueError(f"{path} must hold {', '.join(FIELDS)}; got {row!r}")
    measured = {figure.id: figure.value for figure in load_results(find(method.results)).measured}
    try:
        return {**row, "headline": row["headline"].format_map(measured)}
    except (KeyError, ValueError) as error:
        raise ValueError(f"`headline` of {path}: {error} is no measured figure of {method.results}") from error


def methods_table(root: str = "") -> str:
    """The methods as a Markdown table: the part of the README between its `methods` markers.

    Args:
        root (`str`, *optional*, defaults to `""`): path from the page to the root of the repository, as `"../"`.
    """
    lines = [f"| {' | '.join(HEADER)} |", "| " + " | ".join("---" for _ in HEADER) + " |"]
    for m in METHODS:
        row = load_row(m)
        look = f"[Space]({root}{m.space}), [card]({root}{m.card}), [paper](https://arxiv.org/abs/{m.arxiv})"
        name = f"[{m.title}]({root}{m.docs}) (`{m.slug}`)<br>{m.summary}"
        cells = (name, m.kind, f"`{row['use']}`<br>`{row['load']}`", look, m.status, row["headline"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
