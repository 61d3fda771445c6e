# SPDX-License-Identifier: Apache-2.0
"""Sensitivity Dropout as a `Trainer` callback."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, default_data_collator
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from eigenhub.training.send.config import SenDConfig
from eigenhub.training.send.renamed import restore_renamed
from eigenhub.training.send.runtime import Collate, SenDRuntime, remove_send, runtime_of


class SenDCallback(TrainerCallback, ExportableState):
    """Tracks embeddings at checkpoints and drops the indices that move most, for any `Trainer` (SFT, DPO, ... too).

    The tracked texts must not be in the training set; [`SenDTrainer`] splits them off. State goes into every checkpoint
    folder; a run that is resumed without it fails. [`SenDTrainer`] also has it in what is pushed to the Hub and resumes
    from folders outside of `output_dir`.

    Args:
        config (`SenDConfig` or `Mapping`, *optional*): settings.
        track_dataset (`Sequence`, *optional*): tracked rows, as the model's inputs.
        data_collator (`Callable`, *optional*): rows to a batch; defaults to stacking.
        score_function (`Callable`, *optional*): from the model to a score, for `stop_score`.

    Example:

    ```python
    >>> from eigenhub.training.send import SenDCallback, SenDConfig
    >>> callback = SenDCallback(SenDConfig(mode="random", rho=0.1))  # Trainer(..., callbacks=[callback])
    ```
    """

    def __init__(
        self,
        config: SenDConfig | Mapping[str, Any] | None = None,
        track_dataset: Sequence[Any] | None = None,
        data_collator: Collate | None = None,
        score_function: Callable[[nn.Module], float] | None = None,
    ) -> None:
        self.config = config if isinstance(config, SenDConfig) else SenDConfig(**(config or {}))
        self.track_dataset = track_dataset
        self.data_collator = data_collator or default_data_collator
        self.score_function = score_function

    def state(self) -> dict[str, Any]:
        """For `restore_callback_states_from_checkpoint`: settings only, everything else lives on the model."""
        return {"args": {"config": self.config.to_dict()}, "attributes": {}}

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Puts the gate on the bare model: hooks that come after compilation are ignored silently."""
        if kwargs.get("model") is not None:
            self._attach(kwargs["model"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Binds to the runtime on the model, which may be older than this callback, and restores a resumed run."""
        runtime = runtime_of(kwargs["model"]) or self._attach(kwargs["model"])
        folder = None
        if state.global_step > 0:
            folder = runtime.restore_from or _resumed_folder(args, state)
            restore_renamed(kwargs["model"], folder)
        runtime.begin(kwargs["model"], folder)
        # A checkpoint by steps on the last step of an epoch is written before the epoch ends, which the resumed run will
        # not see. The weights are still those of that moment.
        epoch = state.epoch or 0.0
        if folder is not None and self.config.track_strategy == "epoch" and runtime.checkpoints < epoch == int(epoch):
            self._checkpoint(runtime, state, control, kwargs["model"])
        self._warn_if_too_short(runtime, state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The average, and a checkpoint by steps."""
        runtime = self._runtime(kwargs["model"])
        if runtime.average is not None:
            runtime.average.update()
        every = self.config.track_steps
        if every is not None and state.global_step % every == 0:
            self._checkpoint(runtime, state, control, kwargs["model"])

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A checkpoint by epochs; one that was broken off is none."""
        epoch = state.epoch or 0.0
        broken_off = control.should_training_stop and epoch != int(epoch)
        if self.config.track_strategy == "epoch" and not broken_off:
            self._checkpoint(self._runtime(kwargs["model"]), state, control, kwargs["model"])

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The losses around a choice of indices."""
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is not None:
            self._runtime(kwargs["model"]).note_loss(loss, state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Writes the state beside the weights, unless the trainer has done so."""
        folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        runtime = self._runtime(kwargs["model"])
        if not runtime.saved_by_trainer:
            runtime.save(folder, write=args.should_save)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """State follows the weights if the best ones were loaded; in mode `"ema"` the average becomes the model."""
        runtime = self._runtime(kwargs["model"])
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            restore_renamed(kwargs["model"], Path(state.best_model_checkpoint))
            runtime.load(state.best_model_checkpoint)
        average = runtime.average
        if average is not None:
            average.write()

    def _attach(self, model: nn.Module) -> SenDRuntime:
        remove_send(model)  # that of an earlier Trainer
        rows = self.track_dataset if self.track_dataset is not None else []
        return SenDRuntime(model, self.config, rows, self.data_collator, self.score_function)

    def _runtime(self, model: nn.Module) -> SenDRuntime:
        runtime = runtime_of(model)
        if runtime is None:
            raise RuntimeError("SenD was removed from the model during training")
        return runtime

    def _checkpoint(
        self, runtime: SenDRuntime, state: TrainerState, control: TrainerControl, model: nn.Module
    ) -> None:
        loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
        logs = runtime.observe(model, state.global_step, loss)
        state.log_history.append({**logs, "epoch": state.epoch, "step": state.global_step})
        if runtime.should_stop(model, loss):
            control.should_training_stop = True

    def _warn_if_too_short(self, runtime: SenDRuntime, state: TrainerState) -> None:
        if not self.config.masks:
            return
        every = self.config.track_steps
        total = int(state.num_train_epochs) if every is None else state.max_steps // every
        if total <= runtime.first_refresh:
            warnings.warn(
                f"the run has {total} checkpoints and the first indices are dropped after {runtime.first_refresh}: no part "
                "of it is trained with a mask",
                UserWarning,
                stacklevel=3,
            )


def _resumed_folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the run goes on from, as far as a callback can know; never the checkpoint of another run."""
    folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
    kept = folder / TRAINER_STATE_NAME
    if kept.is_file():
        theirs = TrainerState.load_from_json(str(kept)).log_history
        if json.dumps(theirs) != json.dumps(state.log_history):  # as texts: NaN is not equal to itself
            raise ValueError(
                f"`output_dir` must hold the checkpoint that the run goes on from, {folder} is of another run: use "
                "`SenDTrainer`, which takes a checkpoint from anywhere"
            )
    return folder
