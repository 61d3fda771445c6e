# SPDX-License-Identifier: Apache-2.0
"""What makes a run good: finite losses, and the figures of one process."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tests.common.script_tester import Run


#: Numbers of a summary that tell of the trained model; settings do not.
FIGURES = re.compile(r"loss|accuracy|penalty|condition|perplexity|hallucination|retrieval")
#: Losses that `send_config.json` keeps beside its settings.
MEASURED = re.compile(r"loss_\w+")
STATISTICS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
UNRELATED = re.compile(r"settings ")


def check_losses(run: Run, steps: int) -> None:
    """Raise unless every step has a loss, and each is finite.

    Args:
        run (`Run`): at its end.
        steps (`int`): that it was to take.
    """
    if [row["step"] for row in run.metrics] != list(range(1, steps + 1)) or not all(map(math.isfinite, run.losses)):
        raise AssertionError(f"losses of {len(run.losses)} steps: {run.losses}")


def settled(value: Any) -> Any:
    """A value of a configuration without measured losses, and with names in order: PEFT writes a set as a list.

    Args:
        value (`Any`): as JSON gives it.
    """
    if isinstance(value, dict):
        return {key: settled(entry) for key, entry in value.items() if not MEASURED.fullmatch(key)}
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return sorted(value)
    return value


def check_configurations(run: Run, whole: Run) -> None:
    """Raise unless a run has left the configurations of one process, which load: then, with the same weights, so does it.

    Args:
        run (`Run`): of several processes.
        whole (`Run`): of one.
    """
    found, expected = (
        {path.name: settled(json.loads(path.read_text())) for path in run.folder.glob("*config.json")}
        for run in (run, whole)
    )
    if differing := sorted(name for name in found | expected if found.get(name) != expected.get(name)):
        raise AssertionError(f"{', '.join(differing)} other than in one process")


def without_statistics(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is saved, but for running statistics of batch norm.

    Args:
        weights (`dict[str, Tensor]`): by name.
    """
    return {name: tensor for name, tensor in weights.items() if not STATISTICS.search(name)}


def check_figures(run: Run, whole: Run, losses_only: bool = False) -> None:
    """Raise unless losses and what the summary says of the model are those of one process, up to a row of the test data.

    Args:
        run (`Run`): of several processes.
        whole (`Run`): of one.
        losses_only (`bool`, *optional*, defaults to `False`): leave the summary out.
    """
    found, expected = (figures_of(entry, losses_only) for entry in (run, whole))
    if found.keys() != expected.keys():
        raise AssertionError(f"other figures than one process: {sorted(found.keys() ^ expected.keys())}")
    far = {name: (found[name], value) for name, value in expected.items() if not near(found[name], value)}
    if far:
        name, (one, other) = next(iter(far.items()))
        raise AssertionError(f"{name} is {one:.4g}, in one process {other:.4g}")


def near(found: float, expected: float) -> bool:
    return abs(found - expected) <= 0.02 * max(1.0, abs(expected))


def figures_of(run: Run, losses_only: bool = False) -> dict[str, float]:
    """Losses by step, and the numbers of the summary that tell of the model, by their names.

    Args:
        run (`Run`): at its end.
        losses_only (`bool`, *optional*, defaults to `False`): leave the summary out.
    """
    losses = {f"loss of step {row['step']}": row["loss"] for row in run.metrics}
    if losses_only:
        return losses
    summary = json.loads((run.folder / "summary.json").read_text())
    told = {name: value for name, value in leaves(summary) if FIGURES.search(name) and not UNRELATED.match(name)}
    return losses | told


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a tree of dictionaries, by their path.

    Args:
        tree (`Any`): dictionaries of numbers and other things.
        name (`str`, *optional*, defaults to `""`): path so far.
    """
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{name} {key}".strip())
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield name, float(tree)
