# SPDX-License-Identifier: Apache-2.0
"""What a store has to do for [`CompatibleIndex`], which checks everything before it gets here."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eigenhub.models.bt2.index_rows import RowTable
from eigenhub.models.bt2.index_vectors import Ids, Vectors


@dataclass(frozen=True)
class Layout:
    """
    How vectors of several generations stand in one index of inner products: `[scale * vector, 0]`.

    Args:
        dims (`tuple[int, ...]`): width of the vectors of each generation, never falling.
        old_scale (`float`, *optional*, defaults to 1.0): factor of all generations but the newest.
    """

    dims: tuple[int, ...]
    old_scale: float = 1.0

    @property
    def width(self) -> int:
        """Number of coordinates of the index."""
        return self.dims[-1]

    @property
    def newest(self) -> int:
        """Number of the newest generation."""
        return len(self.dims) - 1

    def scale(self, generation: int) -> float:
        """Factor of the vectors of a generation."""
        return 1.0 if generation == self.newest else self.old_scale


class IndexBackend(ABC):
    """
    A store of vectors of several generations and the search over the newest vector of each item.

    Every change is atomic and durable when its method returns, and may run beside searches. Only one change runs at a
    time; the caller sees to that.

    Attributes:
        name (`str`): how users call it.
        options (`tuple[str, ...]`): what they may set for a new store.
        rows (`RowTable`): items and the generation of each.
        layout (`Layout`): how the vectors stand in the index.
        state (`dict[str, Any]`): what the stamp has to keep, as JSON.
    """

    name: ClassVar[str]
    options: ClassVar[tuple[str, ...]]
    rows: RowTable
    layout: Layout
    state: dict[str, Any]

    @classmethod
    @abstractmethod
    def open(cls, folder: Path | None, layout: Layout, state: dict[str, Any], read_only: bool) -> "IndexBackend":
        """
        Open or begin a store.

        Args:
            folder (`Path`, *optional*): where it lies; without one it is gone when it is closed.
            layout (`Layout`): how its vectors stand in the index.
            state (`dict[str, Any]`): what the stamp kept; options of the backend for a new store.
            read_only (`bool`): whether it is only searched.
        """

    @property
    def retrain_due(self) -> bool:
        """Whether learned parts of the search are out of date; `retrain` renews them."""
        return False

    @abstractmethod
    def retrain(self) -> None:
        """Renew the learned parts of the search."""

    @abstractmethod
    def fill(self, ids: Ids, vectors: Vectors) -> None:
        """First content of a new store; may be cut short, and then begins anew."""

    @abstractmethod
    def put(self, ids: Ids, vectors: Vectors, generation: int) -> None:
        """Store vectors of a generation for items new or known; from now on they are searched by these."""

    @abstractmethod
    def previous(self, ids: Ids) -> np.ndarray:
        """Generation that each item would go back to, -1 where there is none."""

    @abstractmethod
    def restore(self, ids: Ids) -> None:
        """Take items back to their previous generation."""

    @abstractmethod
    def remove(self, ids: Ids) -> None:
        """Forget items."""

    @abstractmethod
    def vectors(self, ids: Ids, generation: int) -> Vectors:
        """Vectors of a generation as they were put, for items that have one."""

    @abstractmethod
    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """
        Largest inner products and their items, both of shape `(q, k)`, in falling order.

        Queries of any width are cut or padded here, where no relayout can come between.
        """

    @abstractmethod
    def relayout(self, layout: Layout) -> None:
        """Stand all vectors in the index by another layout; the caller then saves `state`."""

    @abstractmethod
    def compact(self) -> None:
        """Give up the older vectors of items; the caller then saves `state` and calls `clean`."""

    @abstractmethod
    def clean(self) -> None:
        """Delete files that the saved state no longer names."""

    @abstractmethod
    def refresh(self) -> None:
        """Take in what another process has written."""

    @abstractmethod
    def disk_bytes(self) -> int:
        """Size of the files."""

    @abstractmethod
    def close(self) -> None:
        """Close the files."""
