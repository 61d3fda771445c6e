# SPDX-License-Identifier: Apache-2.0
"""A mixed index answers like brute force, at every share and with every kind of query."""

import numpy as np
import pytest

from eigenhub.models.bt2.index_merge import merge_cosine_results
from eigenhub.models.bt2.index_reports import SearchResult
from tests.models.bt2.index_cases import BACKENDS, NEW, NEW_DIM, OLD, OLD_DIM, Gallery, none_of, stored, unit_rows
from tests.support.devices import require_package


pytestmark = [require_package("faiss"), require_package("lancedb")]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_search_equals_brute_force(backend, share, tmp_path):
    gallery = Gallery()
    index = gallery.index(folder=tmp_path, backend=backend)
    chosen = index.plan("random", seed=1)[: round(share * gallery.size)]
    index.backfill(chosen, gallery.encode, batch_size=64)
    gallery.assert_answers(index, gallery.mask(chosen))
    assert index.status().share == pytest.approx(share)


def test_a_pure_old_index_takes_no_room_for_new_coordinates(backend, tmp_path):
    gallery = Gallery()
    index = gallery.index(folder=tmp_path, backend=backend)
    assert index.status().width == OLD_DIM
    gallery.assert_answers(index, none_of(gallery))
    index.backfill(gallery.ids[:1], gallery.new[:1])
    assert index.status().width == NEW_DIM
    assert index.status().per_generation == {OLD.name: gallery.size - 1, NEW.name: 1}


def test_padded_and_truncated_inner_products_are_one(backend, tmp_path):
    """Consequence 3: z[:m].o = z.[o, 0]; whole and truncated queries find the same in an old index."""
    gallery = Gallery()
    index = gallery.index(folder=tmp_path, backend=backend)
    whole, truncated = index.search(gallery.queries), index.search(gallery.queries[:, :OLD_DIM])
    np.testing.assert_array_equal(whole.ids, truncated.ids)
    index.backfill(gallery.ids[:1], gallery.new[:1])
    index.rollback(gallery.ids[:1])  # now with room for new coordinates
    np.testing.assert_array_equal(index.search(gallery.queries).ids, whole.ids)
    np.testing.assert_allclose(index.search(gallery.queries).scores, whole.scores, atol=1e-6)


def test_the_length_of_a_query_does_not_change_the_order(backend, tmp_path):
    gallery = Gallery()
    index = gallery.index(folder=tmp_path, backend=backend)
    index.backfill(gallery.ids[:90], gallery.new[:90])
    found = [index.search(factor * gallery.queries).ids for factor in (0.3, 1.0, 7.0)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[1])


def test_queries_of_the_old_encoder_find_both_generations(backend, tmp_path):
    gallery = Gallery()
    index = gallery.index(folder=tmp_path, backend=backend)
    index.backfill(gallery.ids[:90], gallery.new[:90])
    queries = unit_rows(np.random.default_rng(5).normal(size=(4, OLD_DIM)))
    scores = queries @ gallery.mixed(gallery.mask(gallery.ids[:90]))[:, :OLD_DIM].T
    best = np.argsort(-scores, axis=1)[:, :5]
    np.testing.assert_array_equal(index.search(queries, k=5, identity=OLD).ids, gallery.ids[best])


def test_one_query_and_many(backend, tmp_path):
    gallery = Gallery(size=40)
    index = gallery.index(folder=tmp_path, backend=backend)
    one, many = index.search(gallery.queries[0], k=3), index.search(gallery.queries, k=3)
    assert one.ids.shape == one.scores.shape == (3,) and many.ids.shape == (8, 3)
    np.testing.assert_array_equal(one.ids, many.ids[0])
    assert index.search(gallery.queries, k=1000).ids.shape == (8, 40)


def test_the_scale_is_applied_exactly_once(backend, tmp_path):
    """Set twice, opened again, rolled back to: old vectors always stand at `old_scale` times what they were."""
    gallery = Gallery()
    index = gallery.index(folder=tmp_path, backend=backend)
    index.backfill(gallery.ids[:90], gallery.new[:90])
    mask = gallery.mask(gallery.ids[:90])
    for scale in (1.3, 1.15):
        index.set_old_scale(scale)
        gallery.assert_answers(index, mask, scale)
    before = stored(index)
    expected = gallery.mixed(mask, 1.15)
    assert before == {item: expected[row].tobytes() for row, item in enumerate(gallery.ids.tolist())}
    index.backfill(gallery.ids[90:120], gallery.new[90:120])
    index.rollback(gallery.ids[90:120])
    assert stored(index) == before
    index.close()
    again = type(index).open(tmp_path)
    assert again.old_scale == 1.15 and stored(again) == before


def test_an_inverted_file_answers_the_same_and_asks_to_be_retrained():
    gallery = Gallery(size=2000)
    index = gallery.index(factory="IVF8,Flat", parameters="nprobe=8")  # every list is searched, so it is exact
    gallery.assert_answers(index, none_of(gallery))
    index.backfill(gallery.ids[:800], gallery.new[:800])
    mask = gallery.mask(gallery.ids[:800])
    gallery.assert_answers(index, mask)
    index.rollback(gallery.ids[:100])
    index.remove(gallery.ids[-50:])
    mask[:100], there = False, np.arange(2000) < 1950
    gallery.assert_answers(index, mask, there=there)
    assert index.status().retrain_due
    index.retrain()
    assert not index.status().retrain_due
    gallery.assert_answers(index, mask, there=there)


@pytest.mark.parametrize("factory", ["SQfp16", "IVF4,SQbf16"])
def test_half_precision_stores(factory):
    gallery = Gallery(size=500)
    index = gallery.index(factory=factory, parameters="nprobe=4" if "IVF" in factory else "")
    index.backfill(gallery.ids[:100], gallery.new[:100])
    assert index.search(gallery.new[:100], k=1).ids.ravel().tolist() == gallery.ids[:100].tolist()


@pytest.mark.parametrize("factory", ["HNSW16", "SQ8", "IVF4,PQ4", "Nonsense"])
def test_factories_that_cannot_be(factory):
    with pytest.raises(ValueError, match=f"`factory` must be Flat.*got '{factory}'"):
        Gallery().index(factory=factory)


@pytest.mark.parametrize("old_scale", [1.0, 1.25])
def test_two_searches_in_a_store_of_cosines_merge_to_the_same_answer(old_scale):
    """Such a store divides by all lengths, so the factor and the share of the query have to come back."""
    gallery = Gallery()
    mask = gallery.mask(gallery.ids[:90])
    cosines = {
        "old": unit_rows(gallery.queries[:, :OLD_DIM]) @ gallery.old[~mask].T,
        "new": gallery.queries @ gallery.new[mask].T,
    }
    results = {}
    for name, rows in cosines.items():
        best = np.argsort(-rows, axis=1)[:, :10]
        ids = gallery.ids[~mask] if name == "old" else gallery.ids[mask]
        results[name] = SearchResult(np.take_along_axis(rows, best, 1), ids[best])
    merged = merge_cosine_results(3 * gallery.queries, OLD_DIM, results["old"], results["new"], 10, old_scale)
    index = gallery.index()
    index.backfill(gallery.ids[:90], gallery.new[:90])
    index.set_old_scale(old_scale)
    expected = index.search(gallery.queries)
    np.testing.assert_array_equal(merged.ids, expected.ids)
    np.testing.assert_allclose(merged.scores, expected.scores, atol=1e-6)


def test_what_cannot_be_merged():
    nothing = SearchResult(np.zeros((1, 0)), np.zeros((1, 0), np.int64))
    with pytest.raises(ValueError, match=r"`old_dim` must be between 1 and the width of the queries, \(1, 2\); got 3"):
        merge_cosine_results([[1.0, 0.0]], 3, nothing, nothing)
