# SPDX-License-Identifier: Apache-2.0
"""Figures of a benchmark in the results file behind a method's model card."""

import datetime
import platform
from importlib.metadata import version
from statistics import mean, stdev
from typing import Any

from eigenhub.hub.resources import find
from eigenhub.hub.results import Measured, load_results, save_results
from eigenhub.methods import get_method


def measured_figure(values: list[float], packages: list[str], **fields: Any) -> Measured:
    """A figure with the spread over its seeds and everything needed to repeat it.

    Args:
        values (`list[float]`): one per seed.
        packages (`list[str]`): whose versions to note, beside torch.
        fields (`Any`): the other fields of [`Measured`].
    """
    return Measured(
        value=float(f"{mean(values):.4g}"),
        spread=float(f"{stdev(values):.2g}") if len(values) > 1 else None,
        hardware=f"CPU, {platform.machine()}, 1 thread",
        date=datetime.date.today().isoformat(),
        versions={name: version(name) for name in ["torch", *packages]},
        **fields,
    )


def replace_measured(slug: str, figures: list[Measured]) -> None:
    """Write figures into a method's results file in place of those that their commands had produced before.

    Args:
        slug (`str`): the method.
        figures (`list[Measured]`): what was measured now.
    """
    path = find(get_method(slug).results)
    results = load_results(path)
    commands = {figure.command for figure in figures}
    results.measured = [figure for figure in results.measured if figure.command not in commands] + figures
    save_results(results, path)
