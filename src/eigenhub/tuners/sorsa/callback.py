# SPDX-License-Identifier: Apache-2.0
"""The penalty as a `Trainer` callback."""

from typing import Any

from torch import nn
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
        model: nn.Module | None = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        if args.deepspeed or getattr(args, "deepspeed_plugin", None) is not None:
            raise RuntimeError(f"{ROUTE} comes too late under DeepSpeed, which steps inside backward: use `SorsaTrainer`")
        claim_route(model, ROUTE)
        check_weight_decay(model, optimizer)

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        scaler = getattr(optimizer, "scaler", None)
        unscaled = scaler is None or args.max_grad_norm > 0  # clipping has unscaled the gradients
        add_penalty_gradient(model, 1.0 if unscaled else scaler.get_scale(), self.broadcast and args.world_size > 1)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        release_route(model, ROUTE)
