# SPDX-License-Identifier: Apache-2.0
"""Which findings of the FedSVD study stand on its card, in the form of a results file."""

from typing import Any

from eigenhub.hub.results import DatasetRef, Measured
from support.card_figures import measured_figure


DATASETS = {
    "digits": ("image-classification", DatasetRef("sklearn/digits", "Handwritten digits", "test")),
    "sentences": ("text-classification", DatasetRef("stanfordnlp/sst2", "SST-2", "test")),
    "frozen head": ("text-classification", DatasetRef("stanfordnlp/sst2", "SST-2", "test")),
}
#: Id of a mode and of a contender on the card.
MODES = {"no privacy": "plain", "epsilon 6": "dp", "AdamW": "adamw"}
PACKAGES = ["transformers", "peft", "opacus", "eigenhub"]


def card_figures(tables: dict[str, dict[str, dict]], seeds: list[int], command: str) -> list[Measured]:
    """Test accuracies of all methods on all tasks.

    Args:
        tables (`dict`): runs by task, mode and contender.
        seeds (`list[int]`): seeds of all values.
        command (`str`): what produced them.
    """
    figures = []
    for task, table in tables.items():
        kind, dataset = DATASETS[task]
        for mode, runs in table.items():
            for name, found in runs.items():
                rounds = sorted(found["runs"][0]["accuracy"], key=int)
                fields: dict[str, Any] = {"task": kind, "dataset": dataset, "command": command, "seeds": seeds}
                figures.append(
                    measured_figure(
                        [run["accuracy"][rounds[-1]] for run in found["runs"]],
                        PACKAGES,
                        id=f"{_slug(task)}-{MODES[mode]}-{_slug(name)}",
                        method=_slug(name),
                        metric="accuracy, per cent",
                        setting=f"{mode}; 6 clients, 3 a round, {rounds[-1]} rounds of 10 steps, rank 8, lr {found['lr']:g}",
                        **fields,
                    )
                )
    return figures


def _slug(name: str) -> str:
    return "-".join(name.replace(",", "").replace("/", "over").replace("_", "-").split())
