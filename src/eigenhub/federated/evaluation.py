# SPDX-License-Identifier: Apache-2.0
"""Evaluation of the federated adapter, by the evaluation loop of `Trainer`."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, PrinterCallback, ProgressCallback, Trainer, TrainingArguments


# Times and counts that `Trainer` adds to what was measured.
_NOT_SCORES = ("_runtime", "_samples_per_second", "_steps_per_second", "_model_preparation_time")


class Evaluator:
    """Computes loss and metrics of a model on one dataset after another.

    Args:
        model (`nn.Module`): unwrapped.
        args (`TrainingArguments`): batch size and precision.
        data_collator (`Callable`): makes a batch of a list of rows.
        compute_metrics (`Callable`, *optional*): from `EvalPrediction` to figures by name.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        data_collator: Callable,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None,
    ) -> None:
        quiet = dataclasses.replace(args, report_to="none", disable_tqdm=True, eval_strategy="no", save_strategy="no")
        self.trainer = Trainer(model, args=quiet, data_collator=data_collator, compute_metrics=compute_metrics)
        for callback in (PrinterCallback, ProgressCallback):
            self.trainer.remove_callback(callback)

    def __call__(self, dataset: Dataset, prefix: str = "eval") -> dict[str, Any]:
        """The figures, each name with a prefix.

        Args:
            dataset (`Dataset`): rows with labels.
            prefix (`str`, *optional*, defaults to `"eval"`): `eval` gives `eval_loss`.
        """
        found = self.trainer.evaluate(dataset, metric_key_prefix=prefix)
        self.trainer.state.log_history.clear()  # would grow with every evaluation of every client
        return {name: value for name, value in found.items() if not name.endswith(_NOT_SCORES) and name != "epoch"}
