# SPDX-License-Identifier: Apache-2.0
"""The penalty as a `Trainer` callback."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eigenhub.tuners.sorsa.routes import add_penalty_gradient, check_weight_decay, claim_route, release_route


ROUTE = "`SorsaRegularizerCallback`"


class SorsaRegularizerCallback(TrainerCallback):
    """Adds the gradient of the penalty before every optimizer step of any `Trainer` (SFT, DPO, ... included).

    The gradient is added after clipping and is not clipped itself, as in the released code. It does not depend on gradient
    accumulation or on the number of processes. DeepSpeed steps inside backward: use [`SorsaTrainer`] there.

    Args:
        broadcast (`bool`, *optional*, defaults to `False`): take the gradient of rank 0 on every rank, which rules out
            drift between ranks; `reg_eps > 0` already keeps rounding differences from being amplified.

    Example:

    ```python
    >>> from eigenhub.tuners.sorsa import SorsaRegularizerCallback
    >>> callbacks = [SorsaRegularizerCallback()]  # Trainer(..., callbacks=callbacks)
    ```
    """

    def __init__(self, broadcast: bool = False) -> None:
        self.broadcast = broadcast

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if args.deepspeed or getattr(args, "deepspeed_plugin", None) is not None:
            raise RuntimeError(
                f"{ROUTE} comes too late under DeepSpeed, which steps inside backward: use `SorsaTrainer`"
            )
        # The state is made anew for every run, so an interrupted run leaves no mark that would block the next one.
        if getattr(state, "sorsa_regularizer", self) is not self:
            raise RuntimeError(f"this Trainer has two {ROUTE}s, which would count the penalty twice: remove one")
        state.sorsa_regularizer = self  # type: ignore[attr-defined]
        claim_route(kwargs["model"], ROUTE)
        check_weight_decay(kwargs["model"], kwargs["optimizer"])

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        scaler = getattr(kwargs["optimizer"], "scaler", None)
        scale = 1.0
        if scaler is not None and not args.max_grad_norm > 0:  # only clipping would have unscaled the gradients
            scale = scaler.get_scale()
        add_penalty_gradient(kwargs["model"], scale, self.broadcast and args.world_size > 1)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        release_route(kwargs["model"], ROUTE)
