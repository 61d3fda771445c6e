# SPDX-License-Identifier: Apache-2.0
"""Which findings of the fact-recall study stand on the card of SenD, in the form of a results file."""

from collections.abc import Sequence
from typing import Any

from eigenhub.hub.results import DatasetRef, Measured
from support.card_figures import measured_figure
from support.send_facts_arms import Arm, Table, figures_of


DATASET = DatasetRef("eigenhub/facts", "Facts about invented people", "test")
#: Figure of a run, its id and its name on the card.
METRICS = (
    ("final", "final", "hallucination share after 16 epochs"),
    ("flip", "flips", "flip rate between epochs"),
)
PACKAGES = ["transformers", "peft", "eigenhub"]


def card_figures(
    arms: Sequence[Arm], table: Table, scored: Sequence[Sequence[dict[str, Any]]], seeds: list[int], command: str
) -> list[Measured]:
    """Hallucinations and flips of all arms, and the AUROC of all detectors on the plain model at the first temperature.

    Args:
        arms (`Sequence[Arm]`): of the main table.
        table (`dict`): their runs.
        scored (`Sequence[Sequence[dict]]`): detectors, by seed, then by temperature.
        seeds (`list[int]`): seeds of all values.
        command (`str`): what produced them.
    """

    def figure(values: list[float], **fields: Any) -> Measured:
        shared: dict[str, Any] = {"task": "text-generation", "dataset": DATASET, "command": command, "seeds": seeds}
        return measured_figure(values, PACKAGES, **shared, **fields)

    figures = []
    for metric, short, name in METRICS:
        for arm in arms:
            setting = f"{arm.name}; GPT-NeoX of 219,136 parameters, batch 64, AdamW, 16 epochs"
            values = figures_of(table, arm.name, metric)
            slug = f"facts-{short}-{arm.slug}"
            method = "send" if arm.flags[1] == "send" else arm.slug
            figures.append(figure(values, id=slug, method=method, metric=name, setting=setting))
    case = [by_temperature[0] for by_temperature in scored]
    setting = f"answers of the plain model after {case[0]['epoch']} epochs, K=10, T={case[0]['temperature']:g}"
    for name in case[0]["auroc"]:
        slug = name.replace(",", "").replace("_", "-").replace(" ", "-")
        values = [entry["auroc"][name] for entry in case]
        figures.append(figure(values, id=f"facts-auroc-{slug}", method=slug, metric="AUROC", setting=setting))
    return figures
