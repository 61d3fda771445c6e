# SPDX-License-Identifier: Apache-2.0
"""The weights that were best on the validation data, in a folder of their own beside the run."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from eigenhub.files import check_entries, naming, open_tensors, read_tensors, write_tensors


ROW = "row"


class BestWeights:
    """
    Keeps the weights of the evaluation with the best figure.

    Args:
        folder (`Path`): where they are kept. All processes read there, the main one writes.
        first_step (`int`):
            Steps already done by the run that is continued. What was kept after that is forgotten: the run repeats those
            evaluations, or goes another way.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.weights = folder / "model.safetensors"
        self.best: float | None = None
        if not self.weights.is_file():
            return
        kept = self._row()
        if kept["step"] > first_step:
            shutil.rmtree(folder)
        else:
            self.best = score(kept)

    def offer(self, row: Mapping[str, float], state: Mapping[str, Tensor]) -> None:
        """Keeps the state if no earlier one was as good."""
        figure = score(row)
        if figure is None or (self.best is not None and figure <= self.best):
            return
        self.best = figure
        self.weights.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(self.weights, state, {ROW: json.dumps(dict(row))})  # one file: the row is that of these weights

    def load_into(self, model: nn.Module) -> int | None:
        """Puts them into a model; returns their step, `None` if nothing was kept."""
        if not self.weights.is_file():
            return None
        model.load_state_dict(read_tensors(self.weights))
        return self._row()["step"]

    def _row(self) -> dict[str, float]:
        with open_tensors(self.weights) as file, naming(self.weights):
            row = json.loads((file.metadata() or {}).get(ROW, "{}"))
            check_entries(row, {"step": int})
        return row


def score(row: Mapping[str, float]) -> float | None:
    """What a row of the metrics is ranked by: accuracy, or minus the error of a regression."""
    if "validation_accuracy" in row:
        return row["validation_accuracy"]
    return -row["validation_rmse"] if "validation_rmse" in row else None
