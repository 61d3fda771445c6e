# SPDX-License-Identifier: Apache-2.0
"""One short training loop for the small base models: AdamW on the CPU, warm-up and cosine, a progress bar."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup


def fit(
    model: PreTrainedModel,
    batches: Iterator[Mapping[str, Tensor]],
    num_steps: int,
    lr: float,
    description: str,
    progress: bool = True,
) -> float:
    """
    Trains all parameters of a model on its own loss; returns the mean loss of the last tenth of the steps.

    Args:
        model (`PreTrainedModel`): trained in place, left in evaluation mode.
        batches (`Iterator[Mapping[str, Tensor]]`): keyword arguments for the model, labels included.
        num_steps (`int`): optimizer steps, a tenth of them warm-up.
        lr (`float`): peak learning rate.
        description (`str`): text before the progress bar.
        progress (`bool`, *optional*, defaults to `True`): whether to show the bar.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    scheduler = get_cosine_schedule_with_warmup(optimizer, num_steps // 10, num_steps)
    losses: list[float] = []
    model.train()
    for _ in tqdm(range(num_steps), desc=description, disable=not progress):
        loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    tail = losses[-max(1, num_steps // 10) :]
    return sum(tail) / len(tail)


def endless_rows(num_rows: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Row indices of batch after batch, every row once per epoch, in an order fixed by the seed."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order: Iterable[Tensor] = torch.randperm(num_rows, generator=generator).split(batch_size)
        yield from (rows for rows in order if len(rows) == min(batch_size, num_rows))
