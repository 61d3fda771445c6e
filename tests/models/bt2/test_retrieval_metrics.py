# SPDX-License-Identifier: Apache-2.0
"""CMC, mAP, recall, MRR and nDCG against sorting by hand and against scikit-learn and sentence-transformers."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from eigenhub.models.bt2.retrieval_metrics import Ranking, rank, similarity, update_gain
from eigenhub.models.bt2.retrieval_relevance import Relevance
from tests.models.bt2.index_cases import unit_rows


def brute_force(queries, gallery, answers, own=None):
    """Every metric by plain sorting, wrong answers first among equals."""
    cmc1, cmc5, aps, recalls, rrs, ndcgs = [], [], [], [], [], []
    width = min(queries.shape[1], gallery.shape[1])
    for row, right in enumerate(answers):
        items = []
        for place in range(len(gallery)):
            if own is None or place not in own[row]:
                score = float(np.float32(queries[row, :width] @ gallery[place, :width]))
                items.append((-score, place in right))
        hits = [hit for _, hit in sorted(items)]
        if not any(hits):
            continue
        places = [place + 1 for place, hit in enumerate(hits) if hit]
        cmc1.append(hits[0])
        cmc5.append(any(hits[:5]))
        aps.append(sum((i + 1) / place for i, place in enumerate(places)) / len(places))
        recalls.append(sum(hits[:10]) / sum(hits))
        rrs.append(1 / places[0] if places[0] <= 10 else 0)
        gains = sum(1 / np.log2(place + 1) for place in places if place <= 10)
        ndcgs.append(gains / sum(1 / np.log2(place + 1) for place in range(1, min(10, len(places)) + 1)))
    values = (cmc1, cmc5, aps, recalls, rrs, ndcgs)
    names = ("cmc@1", "cmc@5", "map", "recall@10", "mrr@10", "ndcg@10")
    return {name: np.mean(value) for name, value in zip(names, values, strict=True)}, len(cmc1)


def coarse(seed, size, width):
    """Vectors of small integers: scores are exact, and many are equal."""
    return np.random.default_rng(seed).integers(-2, 3, (size, width)).astype(np.float32)


def smooth(seed, size, width):
    return unit_rows(np.random.default_rng(seed).normal(size=(size, width)))


@pytest.mark.parametrize("vectors", [coarse, smooth])
@pytest.mark.parametrize("classes", [3, 25])
def test_one_set_searched_by_itself(vectors, classes):
    rows = vectors(0, 120, 6)
    labels = np.random.default_rng(1).integers(0, classes, 120)
    labels[7] = 99  # a class of one
    ids = np.random.default_rng(2).permutation(1000)[:120]
    relevance = Relevance.of_labels(labels, labels, ids, ids)
    found = rank(rows, rows, relevance)
    answers = [set(np.flatnonzero(labels == label)) - {row} for row, label in enumerate(labels)]
    expected, counted = brute_force(rows, rows, answers, [{row} for row in range(120)])
    assert found.metrics(list(expected)) == pytest.approx(expected)
    assert len(found.ranks) == counted < 120 and found.skipped == 120 - counted


def test_different_sets_for_queries_and_gallery():
    """The official metric code reports 1.0 at every rank here."""
    queries, gallery = coarse(3, 40, 5), coarse(4, 90, 7)
    labels, classes = np.random.default_rng(5).integers(0, 6, 40), np.random.default_rng(6).integers(0, 5, 90)
    found = rank(queries, gallery, Relevance.of_labels(labels, classes))
    expected, counted = brute_force(queries, gallery, [set(np.flatnonzero(classes == label)) for label in labels])
    assert found.metrics(list(expected)) == pytest.approx(expected)
    assert found.skipped == np.sum(labels == 5) == 40 - counted


def test_ids_leave_an_item_out_only_where_it_is_itself():
    rows = smooth(7, 30, 8)
    labels = np.arange(30) % 4
    other = rank(rows, rows, Relevance.of_labels(labels, labels, np.arange(30), np.arange(100, 130)))
    without = rank(rows, rows, Relevance.of_labels(labels, labels))
    assert other.metrics() == without.metrics()
    assert without.metric("cmc@1") == 1.0  # every item finds itself
    itself = rank(rows, rows, Relevance.of_labels(labels, labels, np.arange(30), np.arange(30)))
    assert itself.metric("cmc@1") < 1


def test_no_order_of_the_gallery_changes_a_value():
    queries, gallery = coarse(8, 30, 4), coarse(9, 80, 4)
    labels, classes = np.arange(30) % 5, np.arange(80) % 5
    values = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(80)
        values.append(rank(queries, gallery[order], Relevance.of_labels(labels, classes[order])).metrics())
    assert values[0] == values[1] == values[2]


def test_scoring_everything_alike_is_worth_nothing():
    ranking = rank(np.ones((10, 3)), np.ones((50, 3)), Relevance.of_lists([[row] for row in range(10)], 50))
    assert ranking.metric("cmc@49") == 0 and ranking.metric("mrr@10") == 0


def test_peers():
    queries, gallery = smooth(0, 20, 8), smooth(1, 60, 8)
    labels, classes = np.arange(20) % 4, np.arange(60) % 4
    found = rank(queries, gallery, Relevance.of_labels(labels, classes))
    scores, right = similarity(queries, gallery), labels[:, None] == classes
    assert found.metric("map") == pytest.approx(
        np.mean([average_precision_score(r, s) for r, s in zip(right, scores, strict=True)])
    )
    assert found.metric("ndcg@10") == pytest.approx(ndcg_score(right, scores, k=10))


def test_the_wider_side_is_truncated():
    wide, narrow = coarse(1, 5, 9), coarse(2, 6, 4)
    np.testing.assert_array_equal(similarity(wide, narrow), wide[:, :4] @ narrow.T)
    np.testing.assert_array_equal(similarity(narrow, wide), narrow @ wide[:, :4].T)


def test_update_gain():
    assert update_gain({"old/old": 40, "new/old": 45, "new/new": 60}) == 0.25
    assert update_gain({"old/old": 53.7, "new/old": 50, "new/new": 50.7}) is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Ranking((np.array([1]),)).metric("auc"), "`name` must be map, or cmc, .*; got 'auc'"),
        (lambda: Ranking((np.array([1]),)).metric("cmc@0"), "got 'cmc@0'"),
        (lambda: Ranking(()).metric("cmc@1"), "no query has a right answer"),
        (lambda: rank(np.eye(3), np.eye(3), Relevance.of_pairs(2)), "`queries` has 3 rows, the relevance is about 2"),
        (lambda: rank(np.eye(2), np.eye(3)[:, :2], Relevance.of_pairs(2)), "`gallery` has 3 rows, the relevance is"),
        (lambda: rank(np.eye(2) * np.nan, np.eye(2), Relevance.of_pairs(2)), "`queries` must be rows of finite"),
        (lambda: rank(np.eye(2), np.eye(2) / 0, Relevance.of_pairs(2)), "`gallery` must be rows of finite"),
        (lambda: Relevance.of_lists([[5]], 5), "`relevant` must hold positions from 0 to 4, got 5"),
        (lambda: Relevance.of_labels([1], [1], [1]), "`query_ids` and `gallery_ids` belong together"),
        (lambda: Relevance.of_labels([1], [1], [1, 2], [1]), "`query_ids` must have 1 entries, one per label, got 2"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
