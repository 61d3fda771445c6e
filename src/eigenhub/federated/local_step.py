# SPDX-License-Identifier: Apache-2.0
"""One optimizer step of a client."""

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from eigenhub.training.accumulation import count_items, optimizer_step


def local_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    parameters: Sequence[nn.Parameter],
    batches: Sequence[Mapping[str, Tensor]],
    shifted: bool,
    max_grad_norm: float,
) -> Tensor:
    """[`optimizer_step`], which see; in one process and without a gradient scaler the same by torch alone.

    Clients take few steps on small models, where accelerate's look-ups around a step cost a tenth of it.

    Args:
        accelerator (`Accelerator`): with `len(batches)` accumulation steps.
        model (`nn.Module`): prepared.
        optimizer (`AcceleratedOptimizer`): prepared.
        parameters (`Sequence[nn.Parameter]`): what it trains.
        batches (`Sequence[Mapping[str, Tensor]]`): this process's batches of the step.
        shifted (`bool`): whether the model predicts the next label.
        max_grad_norm (`float`): 0 for no clipping.
    """
    if accelerator.num_processes > 1 or accelerator.scaler is not None:
        with accelerator.autocast():  # a model that is not wrapped has none of its own
            return optimizer_step(accelerator, model, optimizer, batches, shifted, max_grad_norm)
    num_items = count_items(batches, accelerator, shifted)
    losses = []
    for batch in batches:
        with accelerator.autocast():
            loss = model(**batch, num_items_in_batch=num_items).loss
        loss.backward()
        losses.append(loss.detach())
    if max_grad_norm > 0:
        torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.optimizer.step()
    optimizer.optimizer.zero_grad()
    return torch.stack(losses).sum()
