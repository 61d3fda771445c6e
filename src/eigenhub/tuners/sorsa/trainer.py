# SPDX-License-Identifier: Apache-2.0
"""The penalty inside the loss of a `Trainer`."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from eigenhub.tuners.sorsa.penalty import orthonormality_penalty
from eigenhub.tuners.sorsa.routes import check_weight_decay, claimed_route


ROUTE = "`SorsaTrainer`"


class SorsaTrainerMixin:
    """Adds `reg_weight * R` to the training loss; mix it in before any `Trainer` class.

    The share of each micro-batch is chosen so that the sum over an accumulation window is exactly `reg_weight * R`,
    whatever the loss normalisation of the model and the number of processes. Gradient clipping sees the sum of both
    gradients. The evaluation loss stays that of the task. Weight decay is kept off the factors.

    Example:

    ```python
    >>> from transformers import Trainer
    >>> from eigenhub.tuners.sorsa import SorsaTrainerMixin
    >>> class MyTrainer(SorsaTrainerMixin, Trainer): ...
    ```
    """

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with claimed_route(self.model, ROUTE):  # type: ignore[attr-defined]
            return super().train(*args, **kwargs)  # type: ignore[misc]

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        check_weight_decay(self.model, optimizer)  # type: ignore[attr-defined]
        return optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return [name for name in super().get_decay_parameter_names(model) if ".sorsa_" not in f".{name}"]  # type: ignore[misc]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        loss, outputs = super().compute_loss(  # type: ignore[misc]
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if model.training:
            penalty = orthonormality_penalty(model, weighted=True).to(loss.device)
            if self._loss_is_window_mean(num_items_in_batch):
                penalty = penalty / self.current_gradient_accumulation_steps  # type: ignore[attr-defined]
            loss = loss + penalty
        return (loss, outputs) if return_outputs else loss

    def _loss_is_window_mean(self, num_items_in_batch: Tensor | int | None) -> bool:
        """Whether the task loss is already normalised over the accumulation window, so that Trainer will not divide it."""
        trainer: Any = self
        if trainer.loss_is_scaled_for_ga is not None:
            return trainer.loss_is_scaled_for_ga
        return (
            trainer.model_accepts_loss_kwargs and num_items_in_batch is not None
        ) or trainer.compute_loss_func is not None


class SorsaTrainer(SorsaTrainerMixin, Trainer):
    """[`~transformers.Trainer`] with the SORSA penalty in the training loss. See [`SorsaTrainerMixin`]."""
