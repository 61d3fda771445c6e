# SPDX-License-Identifier: Apache-2.0
"""A million vectors of 384 dimensions: made, searched while they are backfilled, killed, opened again, rolled back."""

import threading
import time

import numpy as np
import pytest

from eigenhub.models.bt2.index import CompatibleIndex
from eigenhub.models.bt2.index_identity import EncoderIdentity
from tests.support.devices import require_package


pytestmark = [pytest.mark.slow, require_package("faiss")]
COUNT, OLD_DIM, NEW_DIM = 1_000_000, 384, 416
OLD = EncoderIdentity("old", OLD_DIM)
NEW = EncoderIdentity("new", NEW_DIM, compatible_with=OLD)
CHUNK = 50_000


def unit_rows(count, width, seed):
    rows = np.random.default_rng(seed).standard_normal((count, width), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def encode(ids):
    """A new vector for each id, the same every time, without holding a million of them."""
    rows = np.empty((len(ids), NEW_DIM), np.float32)
    base = unit_rows(1024, NEW_DIM, 3)
    rows[:] = base[ids % 1024]
    rows[:, :32] += (((ids[:, None] * np.arange(1, 33)) % 997) / 997 - 0.5).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def brute_force(queries, old, new_ids, old_ids, k=10):
    """The best items by reading everything in chunks."""
    scores, ids = [], []
    for part in np.array_split(new_ids, max(1, len(new_ids) // CHUNK)):
        scores.append(queries @ encode(part).T)
        ids.append(part)
    for part in np.array_split(old_ids, max(1, len(old_ids) // CHUNK)):
        scores.append(queries[:, :OLD_DIM] @ old[part].T)
        ids.append(part)
    scores, ids = np.hstack(scores), np.concatenate(ids)
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    found = np.take_along_axis(scores, best, 1)
    order = np.argsort(-found, axis=1)
    return np.take_along_axis(found, order, 1), ids[np.take_along_axis(best, order, 1)]


@pytest.mark.timeout(1800)
def test_a_million_vectors(tmp_path, record_property):
    old = unit_rows(COUNT, OLD_DIM, 0)
    ids = np.arange(COUNT)
    queries = unit_rows(4, NEW_DIM, 1)
    begin = time.perf_counter()
    index = CompatibleIndex.from_old(old, ids, OLD, new_identity=NEW, folder=tmp_path)
    record_property("making_seconds", time.perf_counter() - begin)
    scores, expected = brute_force(queries, old, ids[:0], ids)
    found = index.search(queries, k=10, identity=NEW)
    np.testing.assert_array_equal(found.ids, expected)

    order = index.plan("random")
    stop, errors, latencies = threading.Event(), [], []

    def search():
        try:
            while not stop.is_set():
                begin = time.perf_counter()
                result = index.search(queries[:1], k=10, identity=NEW)
                latencies.append(time.perf_counter() - begin)
                assert (np.diff(result.scores[0]) <= 0).all() and len(set(result.ids[0].tolist())) == 10
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    begin = time.perf_counter()
    index.backfill(order[:300_000], encode, batch_size=2000)
    record_property("vectors_per_second_beside_searches", 300_000 / (time.perf_counter() - begin))
    stop.set()
    thread.join()
    assert not errors and len(latencies) > 10
    record_property("median_search_seconds_beside_backfill", float(np.median(latencies)))

    scores, expected = brute_force(queries, old, order[:300_000], order[300_000:])
    found = index.search(queries, k=10)
    np.testing.assert_array_equal(found.ids, expected)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    index.close()

    begin = time.perf_counter()
    index = CompatibleIndex.open(tmp_path, identity=NEW)
    record_property("opening_seconds", time.perf_counter() - begin)
    assert index.status().share == 0.3
    np.testing.assert_array_equal(index.search(queries, k=10).ids, expected)
    assert index.rollback(order[:300_000]) == 300_000
    np.testing.assert_array_equal(index.store.old_vectors(order[:1000]), old[order[:1000]])
    assert index.status().disk_bytes < 4 * COUNT * OLD_DIM + 4 * 300_000 * NEW_DIM + 20 * COUNT
    index.close()
