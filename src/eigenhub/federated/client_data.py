# SPDX-License-Identifier: Apache-2.0
"""The data of all clients, by client, and the columns of it that a model takes."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset as HfDataset
from torch import nn
from torch.utils.data import Dataset


LABELS = ("label", "label_ids", "labels")


def by_client(datasets: Mapping[str, Dataset] | Sequence[Dataset], name: str) -> Mapping[str, Dataset]:
    """Datasets by client id, in a fixed order; those of a sequence are called by their positions.

    A mapping is kept as it is, so one that makes a client's data when asked for it stays lazy.

    Args:
        datasets (`Mapping` or `Sequence`): one per client.
        name (`str`): of the argument, for the message.

    Raises:
        ValueError: if there are none, or an id is no text.
    """
    if not isinstance(datasets, Mapping):
        width = len(str(max(len(datasets) - 1, 0)))
        datasets = {str(position).zfill(width): dataset for position, dataset in enumerate(datasets)}
    if not datasets:
        raise ValueError(f"`{name}` is empty: there is no client")
    if odd := [client for client in datasets if not isinstance(client, str)]:
        raise ValueError(f"`{name}` must have text as client ids, got {odd[0]!r}")
    return datasets


def model_columns(dataset: Dataset, model: nn.Module) -> Dataset:
    """A dataset without the columns that the model's `forward` does not take, as `Trainer` does it.

    Args:
        dataset (`Dataset`): left alone unless it is a `datasets.Dataset`.
        model (`nn.Module`): without the PEFT model around it.
    """
    if not isinstance(dataset, HfDataset):
        return dataset
    known = {*inspect.signature(model.forward).parameters, *LABELS}
    surplus = [column for column in dataset.column_names if column not in known]
    if len(surplus) == len(dataset.column_names):
        raise ValueError(
            f"none of the columns {dataset.column_names} is an argument of {type(model).__name__}.forward"
        )
    return dataset.remove_columns(surplus)


def summarised(scores: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Mean, mean weighted by size, tenth percentile and worst of every figure over the clients.

    Args:
        scores (`Mapping`): figures by client.
        sizes (`Mapping[str, int]`): examples by client.
    """
    summary: dict[str, Any] = {}
    for name in next(iter(scores.values())):
        values = np.array([score[name] for score in scores.values()])
        weights = np.array([sizes[client] for client in scores])
        # of a loss the high values are the bad ones
        worst, tail = (values.max(), 90) if name.endswith("loss") else (values.min(), 10)
        summary[f"{name}_mean"] = float(values.mean())
        summary[f"{name}_weighted_mean"] = float((values * weights).sum() / weights.sum())
        summary[f"{name}_p10"] = float(np.percentile(values, tail))
        summary[f"{name}_worst"] = float(worst)
    return summary
