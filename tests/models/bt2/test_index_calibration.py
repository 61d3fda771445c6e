# SPDX-License-Identifier: Apache-2.0
"""The curve of a backfill, and the factor that takes the dip out of it."""

import numpy as np
import pytest

from eigenhub.models.bt2.backfill_curves import BackfillCurve, backfill_curve, backfill_states, mixed_rankings
from eigenhub.models.bt2.calibration import NO_DIP, calibrate_old_scale, default_candidates
from eigenhub.models.bt2.retrieval_metrics import rank
from eigenhub.models.bt2.retrieval_relevance import Relevance
from tests.models.bt2.index_cases import BACKENDS, NEW_DIM, OLD_DIM, Gallery, unit_rows
from tests.support.devices import require_package


def upgrade(size=400, share=0.45, noise=0.5, seed=0):
    """
    Pairs of query and item whose new vectors compare with old ones through the first coordinates.

    `share` is the norm of the compatible part: below one, new items look closer to a query than old ones.
    """
    rng = np.random.default_rng(seed)
    compatible = unit_rows(rng.normal(size=(size, OLD_DIM)))
    extra = unit_rows(rng.normal(size=(size, NEW_DIM - OLD_DIM)))

    def near(rows, strength):
        return unit_rows(rows + strength * unit_rows(rng.normal(size=rows.shape)))

    def whole(part, rest):
        return np.hstack([share * part, np.sqrt(1 - share**2) * rest]).astype(np.float32)

    new = whole(compatible, extra)
    queries = whole(near(compatible, noise), near(extra, noise))
    return queries, near(compatible, 0.8), new, Relevance.of_pairs(size)


def test_mixed_rankings_equal_ranking_the_mixed_gallery():
    queries, old, new, _ = upgrade(150)
    labels = np.arange(150) % 40
    relevance = Relevance.of_labels(labels, labels, np.arange(150), np.arange(150))
    masks = backfill_states(150, [0.0, 0.3, 1.0], seed=2)
    found = mixed_rankings(queries, old, new, relevance, masks, [1.0, 1.3])
    for mask, row in zip(masks, found, strict=True):
        for factor, ranking in zip((1.0, 1.3), row, strict=True):
            gallery = np.zeros_like(new)
            gallery[:, :OLD_DIM] = np.float32(factor) * old
            gallery[mask] = new[mask]
            assert ranking.metrics() == pytest.approx(rank(queries, gallery, relevance).metrics(), abs=1e-12)


def test_equal_scores_are_counted_exactly():
    """Small integers: the old score times the factor meets new scores exactly, on both sides of the mask."""
    rng = np.random.default_rng(0)
    queries, old, new = (rng.integers(-2, 3, (60, width)).astype(np.float32) for width in (6, 4, 6))
    (mask,) = backfill_states(60, [0.5])
    ((ranking,),) = mixed_rankings(queries, old, new, Relevance.of_pairs(60), [mask], [2.0])
    gallery = np.where(mask[:, None], new, np.pad(2 * old, ((0, 0), (0, 2))))
    expected = rank(queries, gallery, Relevance.of_pairs(60))
    assert [r.tolist() for r in ranking.ranks] == [r.tolist() for r in expected.ranks]


def test_the_ends_of_the_curve_do_not_depend_on_the_factor():
    queries, old, new, relevance = upgrade()
    curves = [backfill_curve(queries, old, new, relevance, old_scale=factor) for factor in (1.0, 1.5)]
    assert curves[0].values[0] == curves[1].values[0] == rank(queries, old, relevance).metric("mrr@10")
    assert curves[0].values[-1] == curves[1].values[-1] == rank(queries, new, relevance).metric("mrr@10")
    assert curves[0].values[1:-1] != curves[1].values[1:-1]


def test_area_and_dip():
    curve = BackfillCurve((0.0, 0.5, 1.0), (0.4, 0.3, 0.8), "mrr@10", 1.0)
    assert (curve.auc, curve.dip) == (pytest.approx(0.5), pytest.approx(0.75))


def test_states_are_nested_and_follow_the_order():
    masks = backfill_states(10, [0.0, 0.25, 0.6, 1.0], order=np.arange(10)[::-1])
    assert [mask.sum() for mask in masks] == [0, 2, 6, 10]
    assert all((a <= b).all() for a, b in zip(masks, masks[1:], strict=False))
    assert masks[1].tolist() == [False] * 8 + [True] * 2
    with pytest.raises(ValueError, match="`shares` must lie between 0 and 1, got 1.5"):
        backfill_states(3, [0.5, 1.5])


@pytest.mark.parametrize("seed", range(3))
def test_calibration_takes_the_dip_out(seed):
    queries, old, new, relevance = upgrade(seed=seed)
    half = np.arange(200), np.arange(200, 400)
    result = calibrate_old_scale(
        queries[half[0]], Relevance.of_lists([[i] for i in half[0]], 400), old, new, seed=seed
    )
    assert result.without.dip < 0.9, "without a dip there is nothing to test"
    assert result.curve.dip >= NO_DIP and result.curve.auc > result.without.auc
    others = Relevance.of_lists([[i] for i in half[1]], 400)
    fresh = backfill_curve(queries[half[1]], old, new, others, old_scale=result.old_scale, seed=9)
    assert fresh.dip >= NO_DIP - 0.03
    assert fresh.auc > backfill_curve(queries[half[1]], old, new, others, seed=9).auc


def test_a_smooth_curve_goes_before_a_better_mean():
    queries, old, new, relevance = upgrade()
    free = calibrate_old_scale(queries, relevance, old, new, candidates=np.arange(0.8, 2.5, 0.1))
    assert free.curve.dip >= NO_DIP
    bound = calibrate_old_scale(queries, relevance, old, new, candidates=[0.5, 0.8])
    assert bound.old_scale in (1.0, 0.5, 0.8) and bound.curve.dip < NO_DIP  # none is smooth: the best mean


def test_candidates_reach_the_inverse_norm_of_the_compatible_part():
    queries, *_ = upgrade(share=0.5)
    found = default_candidates(3 * queries, OLD_DIM)
    assert (found[0], found[-1]) == (0.8, pytest.approx(2.0, abs=0.051))
    assert default_candidates(queries, NEW_DIM)[-1] == pytest.approx(1.3, abs=0.051)


def test_few_queries_are_warned_about(caplog):
    queries, old, new, _ = upgrade(60)
    calibrate_old_scale(queries[:20], [[row] for row in range(20)], old, new)
    assert "chosen on 20 queries only" in caplog.text
    with pytest.raises(ValueError, match=r"`candidates` must be positive, got -1"):
        calibrate_old_scale(queries, Relevance.of_pairs(60), old, new, candidates=[-1])


@require_package("faiss")
@require_package("lancedb")
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_index_calibrates_itself(backend, tmp_path):
    """On a sample of its items, whatever their generation; afterwards it answers with the factor."""
    queries, old, new, _ = upgrade()
    gallery = Gallery(400)
    gallery.old, gallery.new, gallery.queries = old, new, queries[:8]
    index = gallery.index(folder=tmp_path, backend=backend)
    index.backfill(gallery.ids[:50], new[:50])
    relevant = [[item] for item in gallery.ids[:200].tolist()]
    dry = index.calibrate_old_scale(queries[:200], relevant, gallery.ids, new, apply=False)
    assert index.old_scale == 1.0
    result = index.calibrate_old_scale(queries[:200], relevant, gallery.ids, new)
    assert dry == result == calibrate_old_scale(queries[:200], [[row] for row in range(200)], old, new)
    assert index.old_scale == index.status().old_scale == result.old_scale > 1
    gallery.assert_answers(index, gallery.mask(gallery.ids[:50]), result.old_scale)


@require_package("faiss")
def test_what_an_index_cannot_be_calibrated_on():
    gallery = Gallery()
    index = gallery.index()
    index.add_new([77777], gallery.new[:1])
    with pytest.raises(ValueError, match="`relevant` must name items of `ids`; others: 5"):
        index.calibrate_old_scale(gallery.queries, [[5]] * 8, gallery.ids[:9], gallery.new[:9])
    with pytest.raises(ValueError, match="must have an old vector; these have none: 77777"):
        index.calibrate_old_scale(gallery.queries, [[77777]] * 8, [77777], gallery.new[:1])
