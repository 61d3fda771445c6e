# SPDX-License-Identifier: Apache-2.0
"""Searches beside a running backfill, in threads and in other processes."""

import threading
import time

import numpy as np
import pytest

from eigenhub.models.bt2.index import CompatibleIndex
from eigenhub.models.bt2.index_lock import SharedLock
from tests.models.bt2.index_cases import BACKENDS, NEW, Gallery, none_of
from tests.support.devices import require_package


pytestmark = [require_package("faiss"), require_package("lancedb")]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_answer_during_a_backfill_is_of_one_generation(backend, tmp_path):
    """Four threads search while one fills, changes the scale and rolls back: no score is of a half-written vector."""
    gallery = Gallery(size=1000)
    scales = (1.0, 1.25)
    index = gallery.index(folder=tmp_path, backend=backend)
    old = gallery.queries @ gallery.mixed(none_of(gallery)).T
    new = gallery.queries @ gallery.new.T
    allowed = np.stack([new, *(scale * old for scale in scales)])  # [3, queries, items]
    row = {item: place for place, item in enumerate(gallery.ids.tolist())}
    done, errors, searches = threading.Event(), [], [0]

    def search():
        try:
            while not done.is_set():
                found = index.search(gallery.queries, k=10)
                places = np.array([[row[item] for item in items] for items in found.ids.tolist()])
                possible = np.take_along_axis(allowed, places[None], 2)
                assert (np.abs(possible - found.scores).min(0) < 1e-5).all()
                assert all(len(set(items)) == 10 for items in found.ids.tolist()), "an item was found twice"
                searches[0] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    batch = 20 if backend == "faiss" else 250
    for _ in range(2 if backend == "faiss" else 1):
        index.backfill(index.plan(), gallery.encode, batch_size=batch)
        index.set_old_scale(scales[1])
        index.rollback(gallery.ids)
        index.set_old_scale(scales[0])
    index.backfill(index.plan(), gallery.encode, batch_size=batch)
    done.set()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert searches[0] > 4
    gallery.assert_answers(index, ~none_of(gallery))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reader_follows_the_writer(backend, tmp_path):
    gallery = Gallery()
    writer = gallery.index(folder=tmp_path, backend=backend)
    reader = CompatibleIndex.open(tmp_path, read_only=True, identity=NEW)
    gallery.assert_answers(reader, none_of(gallery))
    writer.backfill(gallery.ids[:50], gallery.new[:50])
    reader.refresh()
    gallery.assert_answers(reader, gallery.mask(gallery.ids[:50]))
    writer.backfill(gallery.ids[50:90], gallery.new[50:90])
    writer.rollback(gallery.ids[:10])
    writer.remove(gallery.ids[-5:])
    writer.add_new([99999], gallery.new[:1])
    reader.refresh()
    assert reader.search(gallery.new[0], k=1).ids.tolist() == [99999]
    writer.remove([99999])
    there = np.arange(gallery.size) < gallery.size - 5
    for change in (lambda: None, lambda: writer.set_old_scale(1.2), lambda: writer.compact()):
        change()
        reader.search(gallery.queries)  # goes on though its files may be gone
        reader.refresh()
        gallery.assert_answers(reader, gallery.mask(gallery.ids[10:90]), writer.old_scale, there)
    with pytest.raises(PermissionError, match="read_only=True"):
        reader.backfill(gallery.ids[:1], gallery.new[:1])


def test_one_process_writes(tmp_path):
    gallery = Gallery(size=20)
    index = gallery.index(folder=tmp_path)
    for attempt in (lambda: CompatibleIndex.open(tmp_path), lambda: gallery.index(folder=tmp_path)):
        with pytest.raises(BlockingIOError, match="is open for writing elsewhere; open it with read_only=True"):
            attempt()
    index.close()
    CompatibleIndex.open(tmp_path).close()
    with pytest.raises(FileExistsError, match="holds an index already"):
        gallery.index(folder=tmp_path)
    CompatibleIndex.open(tmp_path).close()  # the failed attempt let the lock go


def test_a_waiting_writer_is_not_starved():
    lock = SharedLock()
    done = threading.Event()
    waits = []

    def read():
        while not done.is_set():
            with lock.shared():
                time.sleep(0.002)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    for _ in range(20):
        begin = time.monotonic()
        with lock.alone():
            waits.append(time.monotonic() - begin)
    done.set()
    for reader in readers:
        reader.join()
    assert max(waits) < 1


def test_the_lock_is_free_again_after_an_error():
    lock = SharedLock()
    for hold in (lock.shared, lock.alone):
        with pytest.raises(KeyError), hold():
            raise KeyError
        with lock.alone():
            pass
