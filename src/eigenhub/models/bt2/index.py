# SPDX-License-Identifier: Apache-2.0
"""One index for two generations of vectors: a new encoder goes into service before the items are embedded anew."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from eigenhub.models.bt2.backfill import Order, order_pending
from eigenhub.models.bt2.calibration import Calibration, calibrate_old_scale
from eigenhub.models.bt2.index_identity import IdentityError, as_identity, check_upgrade
from eigenhub.models.bt2.index_reports import BackfillReport, IndexStatus, SearchResult
from eigenhub.models.bt2.index_stamp import IndexStamp
from eigenhub.models.bt2.index_store import Identity, IndexStore
from eigenhub.models.bt2.index_vectors import Ids, Vectors, checked_ids, checked_vectors, is_unit, shown, unit


logger = logging.getLogger(__name__)

Encode = Callable[[Ids], ArrayLike]


class CompatibleIndex:
    r"""
    A vector index in which items of an old and of a backward-compatible new encoder are searched together.

    A query $z \in \mathbb{R}^{n+k}$ scores an old vector $o \in \mathbb{R}^m$ by $z_{1:m} \cdot o = z \cdot [o, 0]$, so
    old vectors stand in the index padded by zeros, and one inner-product search serves both. Items are re-embedded one
    batch after the other, in any order, while searches go on; each batch is on the disk when it returns, so that a
    process may be killed at any point and the next one goes on from there.

    Make one with [`CompatibleIndex.from_old`], open it again with [`CompatibleIndex.open`].

    Args:
        store (`IndexStore`): backend and stamp.

    Example:

    ```python
    >>> import numpy as np
    >>> from eigenhub.models.bt2 import CompatibleIndex, EncoderIdentity
    >>> old = EncoderIdentity("shop/encoder-v1", dim=2)
    >>> new = EncoderIdentity("shop/encoder-v2", dim=3, compatible_with=old)
    >>> index = CompatibleIndex.from_old(np.eye(2), ids=[10, 20], identity=old, new_identity=new)
    >>> index.search([0.0, 0.8, 0.6], k=1).ids
    array([20])
    >>> index.backfill([10], [[0.0, 0.6, 0.8]])
    BackfillReport(written=1, unchanged=0)
    >>> index.search([0.0, 0.8, 0.6], k=1).ids, index.status().share
    (array([10]), 0.5)
    >>> index.rollback([10])
    1
    ```
    """

    def __init__(self, store: IndexStore) -> None:
        self.store = store
        self._hits: Counter[int] = Counter()

    @classmethod
    def from_old(
        cls,
        vectors: ArrayLike,
        ids: ArrayLike,
        identity: Identity,
        *,
        new_identity: Identity | None = None,
        folder: str | Path | None = None,
        backend: Literal["faiss", "lancedb"] = "faiss",
        normalize: bool = True,
        **options: Any,
    ) -> "CompatibleIndex":
        """
        An index of the vectors that there are.

        Args:
            vectors (`ArrayLike` of shape `(items, m)`): vectors of the old encoder.
            ids (`ArrayLike` of shape `(items,)`): distinct 64-bit integers.
            identity (`EncoderIdentity | Mapping`): the old encoder.
            new_identity (`EncoderIdentity | Mapping`, *optional*): the new encoder, see [`CompatibleIndex.upgrade`].
            folder (`str | Path`, *optional*): where to keep the index; without it, it is gone with the process.
            backend (`"faiss"` or `"lancedb"`, *optional*, defaults to `"faiss"`): search in memory, or on the disk.
            normalize (`bool`, *optional*, defaults to `True`): bring vectors to unit norm that do not have it, and keep
                a note of it; if false, they are refused.
            options: of the backend: `factory` and `parameters` for FAISS, see
                [`FaissSearch`][eigenhub.models.bt2.index_faiss_search.FaissSearch].
        """
        old = as_identity(identity)
        keys = checked_ids(ids)
        rows = checked_vectors(vectors, [old.dim], keys)
        if not (was_unit := is_unit(rows)):
            rows = _normalized(rows, normalize)
        stamp = IndexStamp(backend, (old,), normalized_on_entry=not was_unit)
        index = cls(IndexStore.create(None if folder is None else Path(folder), stamp, options, keys, rows))
        if new_identity is not None:
            index.upgrade(new_identity)
        return index

    @classmethod
    def open(
        cls, folder: str | Path, *, identity: Identity | None = None, read_only: bool = False
    ) -> "CompatibleIndex":
        """
        An index that was kept in a folder. What a killed process left half-written is dropped.

        Args:
            folder (`str | Path`): the folder.
            identity (`EncoderIdentity | Mapping`, *optional*): an encoder that must be among those of the index.
            read_only (`bool`, *optional*, defaults to `False`): search only, beside another process that writes; see
                [`CompatibleIndex.refresh`].
        """
        index = cls(IndexStore.open(Path(folder), read_only))
        if identity is not None:
            try:
                index.store.check_reader(identity, "`identity`: queries")
            except IdentityError:
                index.close()
                raise
        return index

    def upgrade(self, identity: Identity) -> None:
        """
        Name the encoder that items are to be backfilled to. From now on its queries are welcome.

        Args:
            identity (`EncoderIdentity | Mapping`): the new encoder, `n + k` wide. Naming the newest one again changes
                nothing, so that a job can do it at every start.
        """
        new = as_identity(identity)
        with self.store.change():
            stamp = self.store.stamp
            if not new.differences(stamp.newest):
                return
            if stamp.laid_out < len(stamp.generations):
                raise IdentityError(
                    f"`identity`: {stamp.newest.name} was named but has no vectors yet; backfill to it first"
                )
            check_upgrade(new, stamp.newest)
            self.store.save(replace(stamp, generations=(*stamp.generations, new)))

    def refresh(self) -> None:
        """Take in what another process has written since this one opened the index."""
        self.store.refresh()

    def close(self) -> None:
        """Close the files and let other processes write."""
        self.store.close()

    def __enter__(self) -> "CompatibleIndex":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.store.backend.rows)

    def search(self, queries: ArrayLike, k: int = 10, *, identity: Identity | None = None) -> SearchResult:
        """
        The items with the largest inner products.

        Args:
            queries (`ArrayLike` of shape `(q, d)` or `(d,)`): whole vectors of the new encoder, their first `m`
                coordinates, or vectors of the old encoder; no norm is asked for.
            k (`int`, *optional*, defaults to 10): items per query. An inverted file that probes few lists may find
                fewer, and then gives -1 as ids.
            identity (`EncoderIdentity | Mapping`, *optional*): who wrote the queries; another encoder than those of the
                index is an error.
        """
        if k < 1:
            raise ValueError(f"`k` must be positive, got {k}")
        if identity is not None:
            self.store.check_reader(identity, "`queries`")
        rows, single = _as_rows(queries)
        rows = checked_vectors(rows, [encoder.dim for encoder in self.store.stamp.generations], name="queries")
        scores, ids = self.store.search(rows, k)
        self._hits.update(ids.ravel().tolist())
        return SearchResult(scores[0], ids[0]) if single else SearchResult(scores, ids)

    def status(self) -> IndexStatus:
        """How many items have a vector of which encoder, and what the index takes."""
        store = self.store
        counts = np.bincount(store.backend.rows.generation, minlength=len(store.stamp.generations))
        names = [encoder.name for encoder in store.stamp.generations]
        return IndexStatus(
            total=len(self),
            per_generation=dict(zip(names, counts.tolist(), strict=True)),
            backfilled=int(counts[-1]),
            width=store.backend.layout.width,
            old_scale=store.stamp.old_scale,
            normalized_on_entry=store.stamp.normalized_on_entry,
            retrain_due=store.backend.retrain_due,
            disk_bytes=store.backend.disk_bytes(),
        )

    def add_new(self, ids: ArrayLike, vectors: ArrayLike, *, identity: Identity | None = None) -> BackfillReport:
        """
        New items, which never had an old vector.

        Args:
            ids (`ArrayLike` of shape `(b,)`): keys that the index does not have; the same item again is let pass.
            vectors (`ArrayLike` of shape `(b, n + k)`): vectors of the new encoder, of unit norm.
            identity (`EncoderIdentity | Mapping`, *optional*): who wrote the vectors.
        """
        keys = checked_ids(ids)
        with self.store.change():
            rows = self.store.new_vectors(keys, vectors, identity)
            if (other := keys[self.store.backend.rows.known(keys) & ~self.store.has_new(keys, rows)]).size:
                raise ValueError(f"`ids` must be new, but the index has {shown(other)}; use backfill for them")
            written = self.store.put_new(keys, rows)
        return BackfillReport(int(written.sum()), int((~written).sum()))

    def backfill(
        self,
        ids: ArrayLike,
        vectors: ArrayLike | Encode,
        *,
        identity: Identity | None = None,
        batch_size: int = 1024,
        progress: bool = False,
    ) -> BackfillReport:
        """
        Vectors of the new encoder for items that have one of an old encoder.

        Doing it again changes nothing, so an interrupted job is simply started again: with [`CompatibleIndex.plan`] it
        goes on where it was.

        Args:
            ids (`ArrayLike` of shape `(b,)`): items of the index.
            vectors (`ArrayLike` of shape `(b, n + k)` or `Callable`): their new vectors, of unit norm; or a function
                that takes the ids of a batch and computes them.
            identity (`EncoderIdentity | Mapping`, *optional*): who wrote the vectors.
            batch_size (`int`, *optional*, defaults to 1024): items per write.
            progress (`bool`, *optional*, defaults to `False`): whether to show a bar.

        Returns:
            `BackfillReport`: numbers of items written and left as they were.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be positive, got {batch_size}")
        keys = checked_ids(ids)
        self.store.backend.rows.rows(keys)  # says which are unknown before anything is computed
        given = None if callable(vectors) else np.asarray(vectors)
        if given is not None and len(given) != len(keys):
            raise ValueError(f"`ids` and `vectors` must be of one length, got {len(keys)} and {len(given)}")
        written = 0
        with tqdm(total=len(keys), desc="backfill", unit="vectors", disable=not progress) as bar:
            for begin in range(0, len(keys), batch_size):
                batch = keys[begin : begin + batch_size]
                part = given[begin : begin + batch_size] if given is not None else vectors(batch)  # type: ignore[operator]
                written += self._backfill_batch(batch, part, identity)
                bar.update(len(batch))
        return BackfillReport(written, len(keys) - written)

    def _backfill_batch(self, keys: Ids, vectors: ArrayLike, identity: Identity | None) -> int:
        with self.store.change():
            rows = self.store.new_vectors(keys, vectors, identity)
            here = self.store.backend.rows.known(keys)  # an item may have been removed while a long job ran
            return int(self.store.put_new(keys[here], rows[here]).sum())

    def plan(
        self,
        order: Order = "random",
        *,
        labels: ArrayLike | None = None,
        queries: ArrayLike | None = None,
        seed: int = 0,
    ) -> Ids:
        """
        Ids of the items still to be backfilled, in a good order.

        Args:
            order (`str`, *optional*, defaults to `"random"`): `"hot"`, most often found first, by the searches since
                the index was opened or by those of `queries`; `"random"`; `"class_mean"`, farthest from the mean old
                vector of its class first; `"ids"`, ascending.
            labels (`ArrayLike` of shape `(items,)`, *optional*): class of each item, in the order of `self.ids`, for
                `"class_mean"`.
            queries (`ArrayLike` of shape `(q, d)`, *optional*): a sample of the query log, for `"hot"`.
            seed (`int`, *optional*, defaults to 0): of `"random"`.
        """
        if queries is not None:
            self.search(queries)
        return order_pending(self.store, order, labels, self._hits, seed)

    def rollback(self, ids: ArrayLike) -> int:
        """
        Take items back to the vectors they had before the newest encoder, byte for byte.

        Args:
            ids (`ArrayLike` of shape `(b,)`): items of the index; those that are not backfilled stay as they are.

        Returns:
            Number of items that went back.
        """
        keys = checked_ids(ids)
        with self.store.change():
            rows = self.store.backend.rows
            back = keys[rows.generation[rows.rows(keys)] == self.store.newest]
            if (missing := back[self.store.backend.previous(back) < 0]).size:
                raise ValueError(f"`ids` must have an older vector to go back to; these have none: {shown(missing)}")
            if len(back):
                self.store.backend.restore(back)
        return len(back)

    def remove(self, ids: ArrayLike) -> None:
        """
        Forget items. Their bytes leave the disk with the next [`CompatibleIndex.compact`].

        Args:
            ids (`ArrayLike` of shape `(b,)`): items of the index.
        """
        keys = checked_ids(ids)
        with self.store.change():
            self.store.backend.rows.rows(keys)  # says which are unknown
            self.store.backend.remove(keys)

    @property
    def ids(self) -> Ids:
        """All items, in the order of the store."""
        return self.store.backend.rows.ids.copy()

    @property
    def old_scale(self) -> float:
        """Factor of the vectors of older encoders."""
        return self.store.stamp.old_scale

    def set_old_scale(self, old_scale: float) -> None:
        """
        Let old vectors weigh more or less against new ones; the index is made anew with the factor in it, once.

        Args:
            old_scale (`float`): factor, positive; see [`CompatibleIndex.calibrate_old_scale`].
        """
        if not (np.isfinite(old_scale) and old_scale > 0):
            raise ValueError(f"`old_scale` must be positive and finite, got {old_scale}")
        with self.store.change():
            self.store.lay_out(replace(self.store.stamp, old_scale=float(old_scale)))

    def calibrate_old_scale(
        self,
        queries: ArrayLike,
        relevant: Sequence[Sequence[int]],
        ids: ArrayLike,
        vectors: ArrayLike,
        *,
        apply: bool = True,
        **options: Any,
    ) -> Calibration:
        """
        Choose `old_scale` such that results do not dip on the way.

        A query of the new encoder scores new items by the whole of its unit vector and old ones by a part of it, so
        without a factor the first items to be backfilled crowd out the rest. The factor is chosen on queries that the
        head was not fitted on: on its own training pairs it comes out too low.

        Args:
            queries (`ArrayLike` of shape `(q, n + k)`): held-out queries of the new encoder.
            relevant (`Sequence[Sequence[int]]`): ids of the items that answer each query, out of `ids`.
            ids (`ArrayLike` of shape `(b,)`): a sample of the items, answers and others.
            vectors (`ArrayLike` of shape `(b, n + k)`): their vectors of the new encoder.
            apply (`bool`, *optional*, defaults to `True`): whether to set the factor.
            options: further arguments of
                [`calibrate_old_scale`][eigenhub.models.bt2.calibration.calibrate_old_scale].
        """
        keys = checked_ids(ids)
        new = self.store.new_vectors(keys, vectors, None)
        place = {item: row for row, item in enumerate(keys.tolist())}
        if unknown := {item for items in relevant for item in items} - set(place):
            raise ValueError(f"`relevant` must name items of `ids`; others: {shown(sorted(unknown))}")
        rows = checked_vectors(queries, [new.shape[1]], name="queries")
        answers = [[place[item] for item in items] for items in relevant]
        result = calibrate_old_scale(rows, answers, self.store.old_vectors(keys), new, **options)
        if apply:
            self.set_old_scale(result.old_scale)
        return result

    def retrain(self) -> None:
        """Let an index with learned centroids learn them anew; due when [`IndexStatus.retrain_due`] says so."""
        with self.store.change():
            self.store.backend.retrain()

    def compact(self) -> None:
        """Keep only the vectors that are searched: rollback is over, and the files take what one index takes."""
        with self.store.change():
            self.store.backend.compact()
            self.store.save(self.store.stamp)
            self.store.backend.clean()


def _normalized(rows: Vectors, allowed: bool) -> Vectors:
    if not allowed:
        raise ValueError("`vectors` must have unit norm, or pass normalize=True")
    logger.warning("the old vectors do not have unit norm; the index holds them normalised")
    return unit(rows)


def _as_rows(queries: ArrayLike) -> tuple[np.ndarray, bool]:
    array = np.asarray(queries, np.float32)
    return (array[None], True) if array.ndim == 1 else (array, False)
