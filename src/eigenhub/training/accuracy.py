# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a classifier over all processes."""

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader


@torch.no_grad()
def accuracy(
    accelerator: Accelerator, model: nn.Module, rows: Sequence[Mapping[str, Tensor]], batch_size: int = 256
) -> float:
    """
    Share of rows whose largest logit is that of their label.

    Args:
        accelerator (`Accelerator`): shares the rows out among the processes.
        model (`nn.Module`): takes the columns of a row by name and returns an output with `logits`.
        rows (`Sequence[Mapping[str, Tensor]]`): with `labels` and the model's inputs.
        batch_size (`int`, *optional*, defaults to 256): rows per process and call.
    """
    was_training = model.training
    model.eval()
    correct = []
    for batch in accelerator.prepare_data_loader(DataLoader(rows, batch_size=batch_size)):  # type: ignore[arg-type]
        inputs = {name: column for name, column in batch.items() if name != "labels"}
        hits = model(**inputs).logits.argmax(-1) == batch["labels"]
        correct.append(accelerator.gather_for_metrics(hits))  # without the rows that only fill up the last batch
    model.train(was_training)
    return torch.cat(correct).float().mean().item()
