# SPDX-License-Identifier: Apache-2.0
"""Which findings on GSM8K stand on the card of SenD, in the form of a results file."""

from collections.abc import Sequence
from typing import Any

from eigenhub.hub.results import DatasetRef, Measured
from support.card_figures import measured_figure
from support.send_gsm8k_arms import ARMS


DATASET = DatasetRef("openai/gsm8k", "GSM8K", "test", "main")
#: Detector and its id on the card.
SHOWN = {
    "EigenScore inside, middle": "eigenscore-inside-middle",
    "EigenScore inside_paper, middle": "eigenscore-inside-paper-middle",
    "EigenScore send, penultimate": "eigenscore-send-penultimate",
    "EigenScore sample, penultimate": "eigenscore-sample-penultimate",
    "EES exact trace, penultimate": "ees-penultimate",
    "EES as released, penultimate": "ees-released-penultimate",
    "length-normalised entropy": "length-normalised-entropy",
    "mean token entropy": "mean-token-entropy",
    "1 - mode share": "one-minus-mode-share",
    "mean length": "mean-length",
    "greedy, - log-probability": "greedy-log-probability",
}
#: Figure of an arm and its id on the card.
TRAINED = {
    "steps right at the end, per cent": "right",
    "flips from epoch to epoch, per cent": "flips",
    "held-out loss at the end": "loss",
}


def card_figures(rows: Sequence[dict[str, Any]], seeds: list[int], command: str) -> list[Measured]:
    """AUROC of the detectors; what the arms of training further end on.

    Args:
        rows (`Sequence[dict]`): of the report.
        seeds (`list[int]`): seeds of all values.
        command (`str`): what produced them.
    """
    by_name = {row["what"]: row for row in rows}

    def figure(name: str, method: str, metric: str, setting: str, values: list[float]) -> Measured:
        fields: dict[str, Any] = {"task": "text-generation", "dataset": DATASET, "command": command}
        packages = ["transformers", "eigenhub"]
        return measured_figure(
            values, packages, id=f"gsm8k-{name}", method=method, metric=metric, setting=setting, seeds=seeds, **fields
        )

    figures = []
    for name, slug in SHOWN.items():
        setting = f"{name}; calculator steps, K=10, T=0.5"
        figures.append(figure(slug, slug, "AUROC", setting, by_name[f"AUROC, T=0.5: {name}"]["auroc"]["seeds"]))
    for what, short in TRAINED.items():
        for arm, mode in ARMS.items():
            row = by_name[f"trained further, {what}: {arm}"]
            figures.append(figure(f"further-{mode}-{short}", mode, what, f"{arm}; trained further", row["seeds"]))
    return figures
