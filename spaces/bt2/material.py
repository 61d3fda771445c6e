# SPDX-License-Identifier: Apache-2.0
"""What is searched: items with an old and a new vector each, and held-out queries with their right answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from eigenhub.models.bt2 import EncoderIdentity, Relevance
from eigenhub.nn import BasisTransformationHead


Vectors = np.ndarray


@dataclass(frozen=True)
class Material:
    """
    An upgrade to look at.

    Args:
        metric (`str`): what is measured.
        old (`EncoderIdentity`): the old encoder.
        new (`EncoderIdentity`): the backward-compatible one.
        old_queries (`NDArray`): held-out queries by the old encoder.
        queries (`NDArray`): the same by the backward-compatible encoder.
        old_items (`NDArray`): items by the old encoder.
        items (`NDArray`): the same by the backward-compatible encoder.
        independent (`tuple[NDArray, NDArray]`): queries and items by the new encoder without a head.
        relevance (`Relevance`): right answers to the held-out queries.
        contents (`list`): the items themselves.
        labels (`list[str]`): what makes two items answer the same query: their text, or their class.
        encode (`Callable`): takes a query, gives its old and its compatible vector.
    """

    metric: str
    old: EncoderIdentity
    new: EncoderIdentity
    old_queries: Vectors
    queries: Vectors
    old_items: Vectors
    items: Vectors
    independent: tuple[Vectors, Vectors]
    relevance: Relevance
    contents: list[Any]
    labels: list[str]
    encode: Callable[[Any], tuple[Vectors, Vectors]]


@torch.inference_mode()
def through(head: BasisTransformationHead, vectors: Vectors) -> Vectors:
    """Vectors of the new encoder with the head behind them."""
    return head(torch.from_numpy(np.asarray(vectors, np.float32))).embedding.numpy()
