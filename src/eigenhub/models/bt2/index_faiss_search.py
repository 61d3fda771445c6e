# SPDX-License-Identifier: Apache-2.0
"""FAISS as the search of a store: exact by default, or by an inverted file."""

import re
from typing import Any

import numpy as np

from eigenhub.models.bt2.index_lock import SharedLock
from eigenhub.models.bt2.index_vectors import Ids, Vectors, padded
from eigenhub.models.bt2.search_extra import require


FLAT = "Flat"
FACTORIES = re.compile(r"(IVF\d+(_HNSW\d+)?,)?(Flat|SQfp16|SQbf16)")


class FaissSearch:
    """
    `IndexIDMap2` over an index of inner products, safe to search while it changes.

    Args:
        width (`int`): number of coordinates.
        factory (`str`, *optional*, defaults to `"Flat"`): FAISS factory string: `Flat`, `SQfp16` or `SQbf16`, alone or
            behind an inverted file as in `"IVF1024,Flat"`.
        parameters (`str`, *optional*, defaults to `""`): search parameters as FAISS writes them, such as `"nprobe=32"`.
    """

    def __init__(self, width: int, factory: str = FLAT, parameters: str = "") -> None:
        faiss: Any = require("faiss", "the FAISS backend of CompatibleIndex")
        if not FACTORIES.fullmatch(factory):
            # A graph cannot remove vectors. Codes learned on old vectors see only zeros where new ones have more.
            raise ValueError(
                f"`factory` must be Flat, SQfp16 or SQbf16, alone or behind an inverted file such as IVF1024,Flat; "
                f"got {factory!r}"
            )
        self._faiss = faiss
        inner = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
        self.width = width
        #: Whether it has to see typical vectors first.
        self.trains = not inner.is_trained
        if parameters:
            try:
                faiss.ParameterSpace().set_index_parameters(inner, parameters)
            except RuntimeError as error:
                raise ValueError(
                    f"`parameters` must be those of FAISS for {factory}, got {parameters!r}: {error}"
                ) from error
        # An inverted file keeps ids by itself. The others are wrapped, and the wrapper keeps `inner` alive.
        self.index = inner if faiss.try_extract_index_ivf(inner) is not None else faiss.IndexIDMap2(inner)
        self._flat = faiss.downcast_index(inner) if factory == FLAT else None
        self._lock = SharedLock()

    def train(self, vectors: Vectors) -> None:
        """Learn from typical vectors."""
        self.index.train(vectors)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """New items at the end."""
        with self._lock.alone():
            self.index.add_with_ids(vectors, ids)

    def replace(self, rows: np.ndarray, ids: Ids, vectors: Vectors) -> None:
        """
        Other vectors for items that are here.

        A flat index is written in its own memory: FAISS's way, removing and adding, moves the whole index each time.

        Args:
            rows (`NDArray[np.int64]` of shape `(b,)`): rows of the items, for a flat index.
            ids (`NDArray[np.int64]` of shape `(b,)`): the items.
            vectors (`NDArray[np.float32]` of shape `(b, width)`): their vectors from now on.
        """
        with self._lock.alone():
            if self._flat is not None:
                memory = self._faiss.rev_swig_ptr(self._flat.get_xb(), self._flat.ntotal * self.width)
                memory.reshape(-1, self.width)[rows] = vectors
            else:
                self.index.remove_ids(ids)
                self.index.add_with_ids(vectors, ids)

    def remove(self, ids: Ids) -> None:
        """Leave items out."""
        with self._lock.alone():
            self.index.remove_ids(ids)

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Largest inner products and their items; any number of threads at a time, queries of any width."""
        rows = np.ascontiguousarray(padded(queries[:, : self.width], self.width))
        with self._lock.shared():
            return self.index.search(rows, min(k, self.index.ntotal))
