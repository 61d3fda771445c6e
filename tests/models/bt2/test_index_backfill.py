# SPDX-License-Identifier: Apache-2.0
"""Filling an index: batches, repetition, interruption, new items, going back, and the order of it all."""

import numpy as np
import pytest

from eigenhub.models.bt2.index import CompatibleIndex
from eigenhub.models.bt2.index_identity import EncoderIdentity
from tests.models.bt2.index_cases import BACKENDS, NEW, NEW_DIM, OLD, Gallery, none_of, stored, unit_rows
from tests.support.devices import require_package


pytestmark = [require_package("faiss"), require_package("lancedb")]


@pytest.fixture(params=BACKENDS)
def index(request, tmp_path):
    return Gallery().index(folder=tmp_path, backend=request.param)


@pytest.fixture
def gallery():
    return Gallery()


def test_doing_it_again_changes_nothing(index, gallery):
    ids = gallery.ids[:100]
    assert index.backfill(ids, gallery.new[:100]) == (100, 0)
    before = stored(index)
    assert index.backfill(ids, gallery.new[:100], batch_size=7) == (0, 100)
    assert index.backfill(gallery.ids[50:150], gallery.encode, batch_size=33) == (50, 50)
    assert {item: before[item] for item in ids.tolist()} == {item: stored(index)[item] for item in ids.tolist()}


def test_doing_it_again_writes_nothing(gallery, tmp_path):
    index = gallery.index(folder=tmp_path)
    index.backfill(gallery.ids[:100], gallery.new[:100])
    size = index.status().disk_bytes
    index.backfill(gallery.ids[:100], gallery.new[:100])
    assert index.status().disk_bytes == size


def test_another_vector_of_the_new_encoder_takes_the_place_of_the_first(index, gallery):
    """A text may be edited while the backfill runs."""
    index.backfill(gallery.ids[:10], gallery.new[:10])
    assert index.backfill(gallery.ids[:10], gallery.new[10:20]) == (10, 0)
    assert stored(index)[gallery.ids[0]] == gallery.new[10].tobytes()


def test_an_interrupted_job_goes_on_where_it_was(index, gallery):
    calls = []

    def encode(ids):
        calls.append(len(ids))
        if len(calls) == 4:
            raise ConnectionError("the GPU is gone")
        return gallery.encode(ids)

    with pytest.raises(ConnectionError):
        index.backfill(index.plan("ids"), encode, batch_size=32)
    assert index.status().backfilled == 96
    assert set(index.plan("ids")) == set(np.sort(gallery.ids)[96:])
    calls.clear()
    index.backfill(index.plan("ids"), gallery.encode, batch_size=32)
    assert index.status().pending == 0 and len(index.plan()) == 0
    gallery.assert_answers(index, ~none_of(gallery))


def test_rollback_restores_bytes(index, gallery):
    index.set_old_scale(1.17)
    index.backfill(gallery.ids[:1], gallery.new[:1])
    index.rollback(gallery.ids[:1])
    before = stored(index)
    index.backfill(gallery.ids[:120], gallery.new[:120], batch_size=50)
    assert stored(index) != before
    assert index.rollback(gallery.ids[:200]) == 120
    assert stored(index) == before
    assert index.rollback(gallery.ids) == 0
    np.testing.assert_array_equal(index.store.old_vectors(gallery.ids), gallery.old)
    assert index.backfill(gallery.ids[:120], gallery.new[:120]) == (120, 0)


def test_everything_is_there_after_opening_again(index, gallery, tmp_path):
    index.backfill(gallery.ids[:90], gallery.new[:90])
    index.rollback(gallery.ids[:20])
    index.remove(gallery.ids[80:100])
    before, state = stored(index), index.status()
    index.close()
    with CompatibleIndex.open(tmp_path, identity=NEW) as again:
        assert stored(again) == before
        assert (again.status().per_generation, again.status().total) == (state.per_generation, state.total)
        again.backfill(again.plan(), gallery.encode)
        gallery.assert_answers(again, ~none_of(gallery), there=~gallery.mask(gallery.ids[80:100]))


def test_new_items(index, gallery):
    extra = unit_rows(np.random.default_rng(9).normal(size=(3, NEW_DIM)))
    ids = np.array([70001, 70002, 70003])
    assert index.add_new(ids, extra) == (3, 0)
    assert index.add_new(ids, extra) == (0, 3)
    assert index.search(extra, k=1).ids.ravel().tolist() == ids.tolist()
    assert index.status().total == gallery.size + 3
    with pytest.raises(ValueError, match="`ids` must be new, but the index has 70001; use backfill"):
        index.add_new(ids[:1], extra[1:2])
    with pytest.raises(ValueError, match=f"the index has {gallery.ids[0]};"):
        index.add_new(gallery.ids[:1], gallery.new[:1])
    with pytest.raises(ValueError, match="older vector to go back to; these have none: 70001, 70002"):
        index.rollback([*ids[:2], gallery.ids[0]])


def test_removed_items_are_not_found_and_a_running_job_goes_on(index, gallery):
    gone = gallery.ids[:30]

    def encode(ids):
        if index.status().total == gallery.size:
            index.remove(gone)
        return gallery.encode(ids)

    report = index.backfill(np.sort(gallery.ids), encode, batch_size=50)
    assert report.written == gallery.size - 30
    gallery.assert_answers(index, ~none_of(gallery), there=~gallery.mask(gone))
    with pytest.raises(ValueError, match="must be in the index; unknown:"):
        index.remove(gone)


def test_compaction_ends_rollback_and_keeps_answers(index, gallery, tmp_path):
    index.set_old_scale(1.2)
    index.backfill(gallery.ids[:200], gallery.new[:200])
    index.backfill(gallery.ids[:200], gallery.new[100:300])
    index.backfill(gallery.ids[:200], gallery.new[:200])
    index.compact()
    mask = gallery.mask(gallery.ids[:200])
    gallery.assert_answers(index, mask, 1.2)
    with pytest.raises(ValueError, match="these have none"):
        index.rollback(gallery.ids[:1])
    np.testing.assert_array_equal(index.store.old_vectors(gallery.ids[200:]), gallery.old[200:])
    index.close()
    with CompatibleIndex.open(tmp_path) as again:
        gallery.assert_answers(again, mask, 1.2)
        again.backfill(again.plan(), gallery.encode)
        gallery.assert_answers(again, ~none_of(gallery))


def test_compaction_gives_the_disk_back(gallery, tmp_path):
    index = gallery.index(folder=tmp_path)
    for shift in (100, 50, 0):
        index.backfill(gallery.ids[:200], gallery.new[shift : shift + 200])
    before = index.status().disk_bytes
    index.compact()
    vectors = 4 * (200 * NEW_DIM + 100 * OLD.dim) + 8 * gallery.size
    assert vectors < index.status().disk_bytes < vectors + 200 < before
    assert [path.name for path in tmp_path.glob("vectors-*.log")] == ["vectors-1.log"]


def test_without_a_folder_everything_works_too(gallery):
    index = gallery.index()
    index.backfill(gallery.ids[:200], gallery.new[:200])
    index.rollback(gallery.ids[:100])
    index.compact()
    gallery.assert_answers(index, gallery.mask(gallery.ids[100:200]))


def test_a_chain_of_three_updates_in_one_index(gallery, tmp_path):
    """Items of three generations are searched together: z_2[:m_1] meets z_1, z_2[:m_0] meets o."""
    widest = unit_rows(np.random.default_rng(3).normal(size=(gallery.size, 28)))
    last = EncoderIdentity("shop/v3", 28, compatible_with=NEW)
    index = gallery.index(folder=tmp_path)
    index.backfill(gallery.ids[:150], gallery.new[:150])
    index.upgrade(last)
    queries = unit_rows(np.random.default_rng(4).normal(size=(5, 28)))
    index.backfill(gallery.ids[100:200], widest[100:200])
    index.close()
    index = CompatibleIndex.open(tmp_path, identity=last)
    assert list(index.status().per_generation.values()) == [100, 100, 100]
    rows = np.zeros((gallery.size, 28), np.float32)
    rows[:, : OLD.dim] = gallery.old
    rows[:100, :NEW_DIM] = gallery.new[:100]
    rows[100:200] = widest[100:200]
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    np.testing.assert_array_equal(index.search(queries, identity=last).ids, gallery.ids[best])
    assert index.rollback(gallery.ids) == 100
    np.testing.assert_array_equal(index.store.old_vectors(gallery.ids[:150])[:, :NEW_DIM], gallery.new[:150])
    assert list(index.status().per_generation.values()) == [150, 150, 0]


# ---------------------------------------------------------------- order


def test_hot_items_come_first(index, gallery):
    index.search(gallery.queries[:1], k=5)
    index.search(gallery.queries[:1], k=2)
    order = index.plan("hot").tolist()
    found = index.search(gallery.queries[0], k=5).ids.tolist()
    assert set(order[:2]) == set(found[:2]) and set(order[:5]) == set(found)
    assert len(order) == gallery.size
    index.backfill(found[:1], gallery.encode)
    assert found[0] not in index.plan("hot")


def test_hot_items_by_a_sample_of_the_query_log(gallery):
    index = gallery.index()
    order = index.plan("hot", queries=np.repeat(gallery.queries[:1], 3, 0))
    assert set(order[:10].tolist()) == set(index.search(gallery.queries[0]).ids.tolist())


def test_farthest_from_the_mean_of_the_class_first(index, gallery):
    index.backfill(gallery.ids[:50], gallery.new[:50])
    labels = {item: row % 7 for row, item in enumerate(gallery.ids.tolist())}
    order = index.plan("class_mean", labels=[labels[item] for item in index.ids.tolist()])
    pending = np.arange(50, gallery.size)
    distance = np.empty(gallery.size)
    for label in range(7):
        rows = pending[pending % 7 == label]
        distance[rows] = np.linalg.norm(gallery.old[rows] - gallery.old[rows].mean(0), axis=1)
    assert order.tolist() == gallery.ids[pending[np.argsort(-distance[pending])]].tolist()


def test_random_order_has_a_seed(gallery):
    index = gallery.index()
    assert index.plan(seed=1).tolist() == index.plan(seed=1).tolist() != index.plan(seed=2).tolist()
    assert sorted(index.plan().tolist()) == index.plan("ids").tolist() == sorted(gallery.ids.tolist())


def test_orders_that_cannot_be(gallery):
    index = gallery.index()
    with pytest.raises(ValueError, match="`order` must be one of hot, random, class_mean, ids; got 'best'"):
        index.plan("best")
    for labels in (None, [1, 2]):
        with pytest.raises(ValueError, match="`labels` must give the class of each of the 300 items"):
            index.plan("class_mean", labels=labels)


def test_the_bar_counts_vectors(gallery, capsys):
    gallery.index().backfill(gallery.ids, gallery.encode, progress=True)
    assert "300/300" in capsys.readouterr().err
