# SPDX-License-Identifier: Apache-2.0
"""Which findings of the Householder studies stand on the card, in the form of a results file."""

from collections.abc import Sequence
from typing import Any

from eigenhub.hub.results import DatasetRef, Measured
from support import householder_gan
from support.card_figures import measured_figure
from support.householder_report import Table, cosines, outside, title_of


TASK = "unconditional-image-generation"
DATASET = DatasetRef("eigenhub/discs", "Discs with five known factors", "test")
PACKAGES = ["transformers", "eigenhub"]
METHOD = "householder"
#: Sets of directions of the adversarial study that are on the card.
SHOWN = (
    ("pretrained", "random"),
    ("pretrained", "sefa"),
    ("pretrained", "jacobian"),
    ("control", "sefa"),
    ("control", "jacobian"),
    ("projector", "parameter"),
    ("projector", "rotated"),
    ("projector", "jacobian"),
    ("projector_learned", "svd"),
    ("projector_random", "parameter"),
    ("low_rank", "jacobian"),
)


def card_figures(part: str, table: Table, seeds: Sequence[int], command: str) -> list[Measured]:
    """The figures of one study.

    Args:
        part (`str`): `"planted"` or `"gan"`.
        table (`dict`): runs by arm.
        seeds (`Sequence[int]`): seeds of all values.
        command (`str`): what produced them.
    """
    common: dict[str, Any] = {"task": TASK, "dataset": DATASET, "command": command, "seeds": list(seeds)}
    return _planted(table, common) if part == "planted" else _adversarial(table, common)


def _planted(table: Table, common: dict[str, Any]) -> list[Measured]:
    measures = {
        "mse": ("test MSE", lambda run: run["mse"]),
        "outside": ("energy outside of the planted span", outside),
        "cosines": ("mean cosine to the planted span", cosines),
    }
    return [
        measured_figure(
            [value_of(run) for run in runs],
            PACKAGES,
            id=f"planted-{name}-{_slug(arm)}",
            method=_method_of(arm),
            metric=metric,
            setting=title_of(arm),
            **common,
        )
        for name, (metric, value_of) in measures.items()
        for arm, runs in table.items()
    ]


def _adversarial(table: Table, common: dict[str, Any]) -> list[Measured]:
    figures = [
        measured_figure(
            [run["frechet"] for run in runs],
            PACKAGES,
            id=f"gan-frechet-{_slug(arm)}",
            method=_method_of(arm),
            metric="Fréchet distance in the features of a factor regressor",
            setting=f"adversarial; {_adversarial_title(arm)}",
            **common,
        )
        for arm, runs in table.items()
    ]
    for layer in householder_gan.LAYERS:
        for arm, name in SHOWN:
            figures.append(
                measured_figure(
                    [run["sets"][f"{layer} {name}"]["disentanglement"] for run in table[arm]],
                    PACKAGES,
                    id=f"gan-{_slug(layer)}-{_slug(arm)}-{name}",
                    method=_method_of(arm),
                    metric=f"disentanglement (DCI) at {layer}",
                    setting=f"adversarial; {_adversarial_title(arm)}, directions: {name}",
                    **common,
                )
            )
    return figures


def _adversarial_title(arm: str) -> str:
    titles = {householder_gan.PRETRAINED: "after pretraining", "low_rank": "low rank P Q^T"}
    return titles.get(arm) or title_of(arm)


def _method_of(arm: str) -> str:
    """The projector as it is meant to be used is this method; everything else is a control."""
    return METHOD if arm in ("projector", "projector_learned") else _slug(arm)


def _slug(name: str) -> str:
    return name.replace("_", "-").replace(".", "-")
