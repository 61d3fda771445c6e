# SPDX-License-Identifier: Apache-2.0
"""Gradient accumulation whose result does not depend on how a step is cut into batches and processes.

The mean of per-batch means weighs a token by the length of its neighbours. Here the items of a whole optimizer step
are counted first, over all accumulated batches and processes, and every batch is divided by that count.
"""

import inspect
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import islice

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.data_loader import DataLoaderShard
from torch import Tensor, nn
from torch.optim import Optimizer


IGNORED = -100


def endless_windows(
    loader: DataLoaderShard, size: int, first_step: int = 0
) -> Generator[list[Mapping[str, Tensor]], None, None]:
    """
    The batches of one optimizer step after another, across the ends of epochs.

    Args:
        loader (`DataLoaderShard`): prepared by accelerate with a seedable sampler and `drop_last`.
        size (`int`): accumulated batches per step.
        first_step (`int`, *optional*, defaults to 0): steps already done by the run that is resumed.
    """
    batches = _endless_batches(loader, first_step * size)
    while True:
        yield list(islice(batches, size))


def _endless_batches(loader: DataLoaderShard, skip: int) -> Iterator[Mapping[str, Tensor]]:
    epoch, offset = divmod(skip, len(loader))
    while True:
        loader.set_epoch(epoch)  # the order of an epoch depends on the seed and its number alone
        yield from skip_first_batches(loader, offset) if offset else loader
        epoch, offset = epoch + 1, 0


def count_items(batches: Sequence[Mapping[str, Tensor]], accelerator: Accelerator, shifted: bool) -> Tensor:
    """
    Number of labels that enter the loss of one optimizer step, over all processes.

    Args:
        batches (`Sequence[Mapping[str, Tensor]]`): this process's batches of the step, with `labels`.
        accelerator (`Accelerator`): sums over the processes.
        shifted (`bool`): whether the model predicts the next label, so that the first one of a row does not count.
    """
    labels = (batch["labels"][..., 1:] if shifted else batch["labels"] for batch in batches)
    local = torch.stack([(part != IGNORED).sum() for part in labels]).sum()
    return accelerator.reduce(local, reduction="sum")


def loss_scale(accelerator: Accelerator) -> int:
    """
    What a loss that is already divided by [`count_items`] is multiplied with before `accelerator.backward`.

    `backward` divides by the number of accumulated batches (DeepSpeed's engine does the same) and the data-parallel
    engines average over the processes; both divisions are already contained in the count.
    """
    return accelerator.gradient_accumulation_steps * accelerator.num_processes


def optimizer_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[Mapping[str, Tensor]],
    shifted: bool,
    max_grad_norm: float,
) -> Tensor:
    """
    One optimizer step over all its accumulated batches; returns this process's part of the mean loss.

    Args:
        accelerator (`Accelerator`): with `len(batches)` accumulation steps.
        model (`nn.Module`): prepared; takes `num_items_in_batch`, see [`check_loss_kwargs`].
        optimizer (`Optimizer`): prepared.
        batches (`Sequence[Mapping[str, Tensor]]`): this process's batches of the step.
        shifted (`bool`): see [`count_items`].
        max_grad_norm (`float`): 0 for no clipping.
    """
    num_items = count_items(batches, accelerator, shifted)
    losses = []
    for batch in batches:
        with accelerator.accumulate(model):
            loss = model(**batch, num_items_in_batch=num_items).loss
            accelerator.backward(loss * loss_scale(accelerator))
            if accelerator.sync_gradients and max_grad_norm > 0:
                accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses).sum()


def check_loss_kwargs(model: nn.Module) -> None:
    """Raises a `ValueError` if a model cannot divide its loss by a given `num_items_in_batch`."""
    takes_kwargs = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(model.forward).parameters.values())
    if not takes_kwargs or getattr(model, "accepts_loss_kwargs", True) is False:
        raise ValueError(
            f"{type(model).__name__} does not take `num_items_in_batch`, so its loss cannot be normalised"
        )
