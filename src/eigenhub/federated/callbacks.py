# SPDX-License-Identifier: Apache-2.0
"""Hooks around the rounds of a federated run; `TrainerCallback` sees only what happens inside a client."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eigenhub.federated.aggregate import AggregateResult
from eigenhub.federated.updates import ClientUpdate


if TYPE_CHECKING:
    from eigenhub.federated.trainer import FederatedLoraTrainer


class FederatedCallback:
    """Override what you need; every method gets the trainer first.

    Example:

    ```python
    >>> from eigenhub.federated import FederatedCallback

    >>> class StopAtNinety(FederatedCallback):
    ...     def on_round_end(self, trainer, record):
    ...         trainer.should_stop = record.get("eval_accuracy", 0) > 0.9
    ```
    """

    def on_train_begin(self, trainer: "FederatedLoraTrainer") -> None:
        """Before the first round of this call of `train`."""

    def on_round_begin(self, trainer: "FederatedLoraTrainer", round: int, clients: Sequence[str]) -> None:
        """Before the clients of a round train."""

    def on_client_end(self, trainer: "FederatedLoraTrainer", update: ClientUpdate) -> None:
        """After a client has trained and before the server looks at its reply; raising makes the client a failed one."""

    def on_client_error(self, trainer: "FederatedLoraTrainer", client_id: str, reason: str) -> None:
        """After a client gave nothing usable."""

    def on_aggregate(self, trainer: "FederatedLoraTrainer", result: AggregateResult) -> None:
        """After the server has averaged and refactored."""

    def on_round_end(self, trainer: "FederatedLoraTrainer", record: dict[str, Any]) -> None:
        """After evaluation and before the round is saved; may set `trainer.should_stop`."""

    def on_train_end(self, trainer: "FederatedLoraTrainer") -> None:
        """After the last round of this call of `train`."""
