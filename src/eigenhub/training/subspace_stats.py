# SPDX-License-Identifier: Apache-2.0
"""How well the subspaces of a projected optimizer follow the gradients of each layer, logged during training."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eigenhub.files import append_line


FILE_NAME = "subspace_stats.jsonl"


class SubspaceStatsCallback(TrainerCallback):
    """Logs what the optimizer did to every matrix: captured energy, index overlap, update size, error feedback.

    At every logging step one JSON line goes to `subspace_stats.jsonl` in the output folder: `step` and, by parameter,
    `captured_energy` (share of the squared norm inside of the chosen subspace), `index_overlap` (share of the indices
    already chosen the time before; under error feedback consecutive sets avoid each other), `update_rms` and `error_norm`
    (with error feedback). Their means enter the Trainer's log as `subspace/...`. Works with every optimizer that has
    `collect_statistics` and `statistics()`; steps between the logged ones cost nothing.

    Args:
        per_layer (`bool`, *optional*, defaults to `True`): write the file; otherwise only the means are logged.

    Example:

    ```python
    >>> from eigenhub.training.subspace_stats import SubspaceStatsCallback
    >>> callbacks = [SubspaceStatsCallback()]  # Trainer(..., callbacks=callbacks)
    ```
    """

    def __init__(self, per_layer: bool = True) -> None:
        self.per_layer = per_layer
        self.means: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = _inner(kwargs["optimizer"])
        if not hasattr(optimizer, "collect_statistics"):
            raise TypeError(f"{type(optimizer).__name__} keeps no statistics of subspaces: use an eigenhub optimizer")

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Switch the statistics on for a step that will be logged."""
        step = state.global_step + 1
        every = max(1, int(state.logging_steps or 0))
        first = args.logging_first_step and step == 1
        _inner(kwargs["optimizer"]).collect_statistics = first or step % every == 0

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read them, while the gradients that they belong to are still there."""
        optimizer = _inner(kwargs["optimizer"])
        if not optimizer.collect_statistics:
            return
        optimizer.collect_statistics = False
        rows = named_statistics(kwargs["model"], optimizer.statistics())
        self.means = {f"subspace/{key}": value for key, value in mean_over_layers(rows).items()}
        if self.per_layer and state.is_world_process_zero:
            path = Path(str(args.output_dir)) / FILE_NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            append_line(path, json.dumps({"step": state.global_step + 1, "layers": rows}))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the means to this log entry, for the trackers that come after and for the Trainer's history."""
        if self.means and "loss" in kwargs.get("logs", {}):
            kwargs["logs"].update(self.means)
            state.log_history[-1].update(self.means)
            self.means = {}


def named_statistics(model: nn.Module, statistics: Mapping[Tensor, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Statistics by the name of the parameter instead of the parameter.

    Args:
        model (`nn.Module`): the model that is trained.
        statistics (`Mapping[Tensor, dict[str, float]]`): what the optimizer gives.
    """
    return {name: statistics[p] for name, p in model.named_parameters() if p in statistics}


def mean_over_layers(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means of every quantity over the layers that have it.

    Args:
        rows (`Mapping`): named numbers by layer.
    """
    keys = sorted({key for row in rows.values() for key in row})
    values = {key: [row[key] for row in rows.values() if key in row] for key in keys}
    return {key: sum(found) / len(found) for key, found in values.items()}


def _inner(optimizer: Any) -> Any:
    """The optimizer inside of accelerate's wrapper."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
