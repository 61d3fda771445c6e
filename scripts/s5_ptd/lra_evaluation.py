# SPDX-License-Identifier: Apache-2.0
"""Loss and accuracy of a model on rows, the same for every number of processes, and what disturbs them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


@torch.no_grad()
def evaluate(
    accelerator: Accelerator, model: nn.Module, rows: Sequence[Mapping[str, Any]], collate: Callable, batch_size: int
) -> dict[str, float]:
    """
    Mean loss over the rows, with the share of right classes, or the root of the mean squared error of a regression.

    Args:
        accelerator (`Accelerator`): shares the rows out among the processes.
        model (`nn.Module`): comes back in the mode it was in.
        rows (`Sequence`): rows of the task.
        collate (`Callable`): makes a batch of a list of rows.
        batch_size (`int`): rows per process and call.
    """
    was_training = model.training
    model.eval()
    # With a generator of its own, since a loader draws from the global one, which the dropout of the training uses.
    own = torch.Generator().manual_seed(0)
    loader: DataLoader = DataLoader(rows, batch_size=batch_size, collate_fn=collate, generator=own)  # type: ignore[arg-type]
    sums = torch.zeros(2, dtype=torch.float64)
    count = 0
    for batch in accelerator.prepare_data_loader(loader):
        labels = batch.pop("labels")
        figures = _per_row(model(**batch).logits.float(), labels)  # [rows, 2]
        figures = accelerator.gather_for_metrics(figures)  # without the rows that only fill up the last batch
        sums += figures.double().sum(0).cpu()
        count += len(figures)
    model.train(was_training)
    loss, right = (sums / count).tolist()
    return {"loss": loss, "accuracy": right} if labels.ndim == 1 else {"loss": loss, "rmse": loss**0.5}


def _per_row(logits: Tensor, labels: Tensor) -> Tensor:
    if labels.ndim > 1:
        error = (logits - labels).square().flatten(1).mean(1)
        return torch.stack([error, error], 1)
    return torch.stack([cross_entropy(logits, labels, reduction="none"), (logits.argmax(-1) == labels).float()], 1)


@contextmanager
def step_rescaled(model: nn.Module, factor: float) -> Iterator[None]:
    """Time steps larger by a factor, for input at a lower rate than that of the training."""
    config: Any = model.config
    before = config.step_rescale
    config.step_rescale = before * factor
    try:
        yield
    finally:
        config.step_rescale = before


def every_second_sample(collate: Callable, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """A batch of waveforms at half the rate."""
    batch = collate(rows)
    return batch | {"input_values": batch["input_values"][:, ::2]}


def worst_frequency(model: nn.Module) -> float:
    """The frequency that the diagonal part of HiPPO, of the order of this model's systems, amplifies most."""
    from eigenhub.linalg.hippo import legs_frequencies

    config: Any = model.config
    return legs_frequencies(config.system_size)[0].item()
