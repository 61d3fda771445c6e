# SPDX-License-Identifier: Apache-2.0
"""A `Trainer` with Sensitivity Dropout."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer

from eigenhub.training.send.callback import SenDCallback
from eigenhub.training.send.config import SenDConfig
from eigenhub.training.send.runtime import SenDRuntime, runtime_of
from eigenhub.training.send.tracking import split_tracking


class SenDTrainerMixin:
    """Splits off the tracked texts, and keeps the state in every folder that is saved; mix it in before any `Trainer`.

    Args:
        send_config (`SenDConfig` or `Mapping`, *optional*): settings.
        track_dataset (`Any`, *optional*): tracked rows; by default a share of `train_dataset`, which is then not trained
            on.
        score_function (`Callable`, *optional*): from the model to a score, for `stop_score`.
        kwargs (`Any`): of the `Trainer`, `train_dataset` among them.

    Example:

    ```python
    >>> from trl import SFTTrainer
    >>> class SenDSFTTrainer(SenDTrainerMixin, SFTTrainer): ...
    ```
    """

    def __init__(
        self,
        *args: Any,
        send_config: SenDConfig | Mapping[str, Any] | None = None,
        track_dataset: Any = None,
        score_function: Callable[[nn.Module], float] | None = None,
        **kwargs: Any,
    ) -> None:
        config = send_config if isinstance(send_config, SenDConfig) else SenDConfig(**(send_config or {}))
        looks = config.mode in ("send", "off")
        if looks and track_dataset is None:
            if kwargs.get("train_dataset") is None:
                raise ValueError("`train_dataset` must be given by name, or `track_dataset` beside it")
            kwargs["train_dataset"], track_dataset = split_tracking(
                kwargs["train_dataset"], config.track_fraction, config.seed
            )
        self.track_dataset = track_dataset
        callback = SenDCallback(config, track_dataset, self._collate_tracked, score_function)
        kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), callback]
        super().__init__(*args, **kwargs)

    @property
    def send(self) -> SenDRuntime:
        """What was seen and what is dropped."""
        runtime = runtime_of(self.model)  # type: ignore[attr-defined]
        if runtime is None:
            raise RuntimeError("SenD was removed from the model")
        return runtime

    def _collate_tracked(self, rows: list[Any]) -> dict[str, Any]:
        trainer: Any = self
        return trainer._get_collator_with_removed_columns(trainer.data_collator)(rows)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model and, beside it, `send_config.json` and the state, before anything is pushed.

        Args:
            output_dir (`str`, *optional*): defaults to that of the arguments.
            _internal_call (`bool`, *optional*, defaults to `False`): as in `Trainer`.
        """
        trainer: Any = self
        self.send.saved_by_trainer = True
        self.send.save(output_dir or trainer.args.output_dir, write=trainer.args.should_save)
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]

    # not `_load_from_checkpoint`, which is not called where an engine loads the weights by itself
    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        self.send.restore_from = None if checkpoint is None else Path(checkpoint)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in `Trainer`; in mode `"ema"` with the averaged weights."""
        with self._averaged():
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As in `Trainer`; in mode `"ema"` with the averaged weights."""
        with self._averaged():
            return super().predict(*args, **kwargs)  # type: ignore[misc]

    def _averaged(self) -> AbstractContextManager:
        average = self.send.average
        return nullcontext() if average is None else average.applied()


class SenDTrainer(SenDTrainerMixin, Trainer):
    """[`~transformers.Trainer`] with Sensitivity Dropout. See [`SenDTrainerMixin`]."""
