# SPDX-License-Identifier: Apache-2.0
"""Vectors that two frozen encoders gave to the same texts, and a short training on them."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm


Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class TeacherVectors:
    """
    Vectors of the same texts by both encoders.

    Args:
        new_queries (`ArrayLike` of shape `(b, n)`): texts, or the shorter side of pairs, by the new encoder.
        old_queries (`ArrayLike` of shape `(b, m)`): the same by the old encoder.
        new_documents (`ArrayLike` of shape `(b, n)`, *optional*): row i answers query i.
        old_documents (`ArrayLike` of shape `(b, m)`, *optional*): the same by the old encoder.
    """

    new_queries: ArrayLike
    old_queries: ArrayLike
    new_documents: ArrayLike | None = None
    old_documents: ArrayLike | None = None

    def __post_init__(self) -> None:
        if (self.new_documents is None) != (self.old_documents is None):
            raise ValueError("`new_documents` and `old_documents` belong together: give both or neither")
        lengths = {
            item.name: len(getattr(self, item.name)) for item in fields(self) if getattr(self, item.name) is not None
        }
        if len(set(lengths.values())) > 1 or 0 in lengths.values():
            raise ValueError(f"the vectors must be of one length, at least 1, got {lengths}")

    @property
    def has_pairs(self) -> bool:
        """Whether there are documents that answer the queries."""
        return self.new_documents is not None

    def tensors(self) -> dict[str, Tensor]:
        """Unit vectors by their names."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: _unit_rows(name, rows) for name, rows in given.items() if rows is not None}


def all_rows(batch: Batch) -> tuple[Tensor, Tensor]:
    """
    New and old vectors of queries and documents together.

    Args:
        batch (`Mapping[str, Tensor]`): of [`TeacherVectors.tensors`], or some rows of it.
    """
    kinds = ("queries", "documents") if "new_documents" in batch else ("queries",)
    new, old = (torch.cat([batch[f"{side}_{kind}"] for kind in kinds]) for side in ("new", "old"))
    return new, old


def train_on_vectors(
    parameters: Iterable[nn.Parameter],
    vectors: TeacherVectors,
    loss: Callable[[Batch], Tensor],
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int = 0,
    progress: bool = False,
    description: str = "fitting",
) -> None:
    """
    Adam with a cosine to zero over batches of paired vectors.

    Args:
        parameters (`Iterable[nn.Parameter]`): what to train, in place.
        vectors (`TeacherVectors`): the vectors.
        loss (`Callable[[Mapping[str, Tensor]], Tensor]`): of a batch with the keys of [`TeacherVectors.tensors`].
        epochs (`int`): passes over the rows.
        batch_size (`int`): rows per step; the batches of an epoch are made equal.
        lr (`float`): peak learning rate.
        seed (`int`, *optional*, defaults to 0): of the order of the rows.
        progress (`bool`, *optional*, defaults to `False`): whether to show a bar.
        description (`str`, *optional*, defaults to `"fitting"`): text before the bar.
    """
    data = vectors.tensors()
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=lr)
    batches = list(_batches(len(data["new_queries"]), epochs, batch_size, seed))
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / len(batches)))
    )
    for rows in tqdm(batches, desc=description, disable=not progress):
        value = loss({name: values[rows] for name, values in data.items()})
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        scheduler.step()


def contrastive(queries: Tensor, documents: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding the document of the same row, among unit vectors of one space."""
    return F.cross_entropy(temperature * queries @ documents.mT, torch.arange(len(queries)))


def _batches(count: int, epochs: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        # a small last batch has few wrong answers, and its gradient counts as much as that of the others
        yield from torch.randperm(count, generator=generator).chunk(max(1, round(count / batch_size)))


def _unit_rows(name: str, rows: ArrayLike) -> Tensor:
    array = torch.from_numpy(np.array(rows, np.float32))
    if array.ndim != 2 or not torch.isfinite(array).all() or (array == 0).all(1).any():
        raise ValueError(f"`{name}` must be rows of finite numbers, none of them zero; got shape {tuple(array.shape)}")
    return F.normalize(array, dim=-1)
