# SPDX-License-Identifier: Apache-2.0
"""Loss of a causal language model on held-out text, the same for every number of processes."""

from collections.abc import Callable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from eigenhub.training.accumulation import IGNORED


class HeldOut:
    """
    Rows to measure the loss on, again and again.

    Args:
        accelerator (`Accelerator`): shares the rows out among the processes.
        rows (`Sequence[Mapping]`): with `input_ids` and `labels`.
        batch_size (`int`): rows per process and call.
        collate (`Callable`, *optional*): makes a batch of a list of rows.
    """

    def __init__(
        self, accelerator: Accelerator, rows: Sequence[Mapping], batch_size: int, collate: Callable | None = None
    ) -> None:
        self.accelerator = accelerator
        loader: DataLoader = DataLoader(rows, batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type]
        self.loader = accelerator.prepare_data_loader(loader)

    @torch.no_grad()
    def loss(self, model: nn.Module) -> float:
        """
        Mean negative log-likelihood of a token in nats; collective over the processes.

        Args:
            model (`nn.Module`): as prepared by the accelerator; comes back in the mode it was in.
        """
        was_training = model.training
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        for batch in self.loader:
            per_row = row_losses(model, batch)
            # without the rows that only fill up the last batch
            sums += self.accelerator.gather_for_metrics(per_row).double().sum(0).cpu()
        model.train(was_training)
        total, count = sums.tolist()
        return total / count


def row_losses(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Summed loss and number of predicted tokens of every row, of shape `[rows, 2]`."""
    inputs = {name: column for name, column in batch.items() if name != "labels"}
    labels = batch["labels"][:, 1:]
    logits = model(**inputs, use_cache=False).logits[:, :-1].float()  # [rows, tokens, vocabulary]
    losses = cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return torch.stack([losses.sum(1), (labels != IGNORED).sum(1).float()], dim=1)
