# SPDX-License-Identifier: Apache-2.0
"""Re-basing under transformers' `Trainer`."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eigenhub.models.bt2.bt2_training import rebase_long_rotations_
from eigenhub.nn.orthogonal_transform import REBASE_ABOVE


class RebaseCallback(TrainerCallback):
    """Calls [`rebase_long_rotations_`] in a `Trainer`, after optimizer steps.

    Args:
        every (`int`, *optional*, defaults to 10): steps between looks.
        above (`float`, *optional*, defaults to 5.0): limit on `skew_norm`.
    """

    def __init__(self, every: int = 10, above: float = REBASE_ABOVE) -> None:
        if every < 1:
            raise ValueError(f"`every` must be at least 1, got {every}")
        self.every, self.above = every, above

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Looks at the rotations if it is time.

        Args:
            args (`TrainingArguments`): of the run.
            state (`TrainerState`): tells the step.
            control (`TrainerControl`): left alone.
            kwargs (`Any`): `model` and `optimizer`, from the `Trainer`.
        """
        if state.global_step % self.every == 0:
            rebase_long_rotations_(kwargs["model"], kwargs.get("optimizer"), self.above)
