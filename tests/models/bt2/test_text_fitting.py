# SPDX-License-Identifier: Apache-2.0
"""The head between two frozen encoders: closed form, training, chains, and what it needs."""

import time
import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from torch.testing import assert_close

from eigenhub.models.bt2 import HeadRecipe, Relevance, TeacherVectors, backfill_curve, fit_head, rank
from eigenhub.models.bt2.calibration import NO_DIP, calibrate_old_scale
from tests.models.bt2.index_cases import unit_rows
from tests.models.bt2.upgrade_cases import NEW_WIDTH, OLD_WIDTH, teachers


QUICK = HeadRecipe(added_dim=6, epochs=4, batch_size=100)


def encoded(head, vectors):
    data = vectors.tensors()
    with torch.no_grad():
        return (head(data[f"new_{side}"]).embedding.numpy() for side in ("queries", "documents"))


def test_without_an_added_part_the_fit_is_orthogonal_procrustes():
    rng = np.random.default_rng(0)
    new = unit_rows(rng.normal(size=(90, 8)))
    old = unit_rows(new @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + 0.1 * rng.normal(size=(90, 8)))
    head = fit_head(TeacherVectors(new, old), HeadRecipe(added_dim=0))
    expected, _ = orthogonal_procrustes(new.astype(np.float64), old.astype(np.float64))
    assert_close(head.folded_matrix().mT / 2, torch.from_numpy(expected).float(), atol=1e-5, rtol=0)


def test_no_semi_orthogonal_map_is_better():
    """m < n: 200 random ones, and small steps away from the optimum."""
    vectors = teachers(300)
    data = vectors.tensors()
    new, old = (torch.cat([data[f"{side}_queries"], data[f"{side}_documents"]]).double() for side in ("new", "old"))
    head = fit_head(vectors, HeadRecipe(added_dim=0))
    best = (head.folded_matrix()[:OLD_WIDTH].double() / 2).mT  # [n, m]
    value = ((new @ best) * old).sum()
    generator = torch.Generator().manual_seed(0)
    for size in (1.0, 0.05):
        for _ in range(100):
            step = torch.randn(NEW_WIDTH, OLD_WIDTH, generator=generator, dtype=torch.float64)
            q, _ = torch.linalg.qr(best * (size < 1) + size * step)
            q = q * torch.sign((q * best).sum(0)) if size < 1 else q
            assert ((new @ q) * old).sum() <= value + 1e-4


@pytest.mark.parametrize(("added", "within"), [("linear", 1e-3), ("normalized", 0.05)])
def test_the_start_ranks_like_procrustes(added, within):
    """For a linear added part the compatible part is the whole Procrustes map from the first step on."""
    vectors = teachers()
    held_out = teachers(200, seed=5)
    relevance = Relevance.of_pairs(200)
    old = held_out.tensors()["old_documents"].numpy()

    def new_old(recipe):
        queries, _ = encoded(fit_head(vectors, recipe), held_out)
        return rank(queries, old, relevance).metric("mrr@10")

    still = HeadRecipe(added_dim=6, epochs=1, lr=1e-12, added=added)
    assert new_old(still) == pytest.approx(new_old(HeadRecipe(added_dim=0)), abs=within)


@pytest.mark.parametrize("added", ["linear", "normalized"])
def test_a_fitted_head_beats_the_old_encoder_at_once_and_loses_little_in_the_end(added):
    vectors, held_out = teachers(), teachers(300, seed=7)
    head = fit_head(vectors, HeadRecipe(added_dim=6, epochs=10, batch_size=100, added=added))
    queries, documents = encoded(head, held_out)
    data = {name: rows.numpy() for name, rows in held_out.tensors().items()}
    relevance = Relevance.of_pairs(300)
    old_old = rank(data["old_queries"], data["old_documents"], relevance).metric("mrr@10")
    independent = rank(data["new_queries"], data["new_documents"], relevance).metric("mrr@10")
    assert independent > old_old + 0.5, "an upgrade that brings little tests little"
    assert rank(queries, data["old_documents"], relevance).metric("mrr@10") > old_old + 0.15
    assert rank(queries, documents, relevance).metric("mrr@10") > independent - 0.06
    chosen = np.arange(300) < 100
    calibration = calibrate_old_scale(
        queries[chosen], [[row] for row in np.flatnonzero(chosen)], data["old_documents"], documents
    )
    rest = Relevance.of_lists([[row] for row in range(100, 300)], 300)
    curve = backfill_curve(
        queries[100:], data["old_documents"], documents, rest, old_scale=calibration.old_scale, seed=3
    )
    assert curve.dip >= NO_DIP


def test_fitting_is_reproducible_and_leaves_the_generator_alone():
    vectors = teachers(200)
    state = torch.random.get_rng_state()
    first, second = (fit_head(vectors, QUICK).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in first.items():
        assert torch.equal(second[name], value), name
    assert not any(p.requires_grad for p in fit_head(vectors, QUICK).parameters())


def test_each_term_of_the_loss_has_its_effect():
    vectors = teachers(200)
    plain = fit_head(vectors, QUICK).state_dict()
    for change in ({"ranking": 0.0}, {"influence": 0.0}, {"old_match": 0.0}, {"temperature": 5.0}, {"scale": 3.0}):
        other = fit_head(vectors, HeadRecipe(added_dim=6, epochs=4, batch_size=100, **change)).state_dict()
        assert not torch.allclose(other["added_projection.weight"], plain["added_projection.weight"], atol=1e-4), (
            change
        )


def test_texts_without_pairs_are_enough_for_a_weaker_head(caplog):
    paired = teachers()
    single = TeacherVectors(paired.new_documents, paired.old_documents)
    head = fit_head(single, QUICK)
    assert "without pairs the head only follows the old vectors" in caplog.text
    held_out = teachers(200, seed=5)
    queries, _ = encoded(head, held_out)
    data = held_out.tensors()
    relevance = Relevance.of_pairs(200)
    old_old = rank(data["old_queries"].numpy(), data["old_documents"].numpy(), relevance).metric("mrr@10")
    assert rank(queries, data["old_documents"].numpy(), relevance).metric("mrr@10") > old_old - 0.02


def test_a_chain_of_three_updates():
    """Each whole vector is the old one of the next update; the first coordinates still meet the oldest gallery."""
    rng = np.random.default_rng(0)
    widths = (8, 10, 12, 14)
    meanings = [np.linalg.qr(rng.normal(size=(20, 20)))[0][:, :width] for width in widths]
    for older, newer in zip(meanings, meanings[1:], strict=False):
        newer[:, : older.shape[1]] = older  # each encoder sees what the last one saw, and more
    texts = unit_rows(rng.normal(size=(500, 20)))
    encoders = [unit_rows(texts @ np.linalg.qr(m)[0]) for m in meanings]
    chain, added = [encoders[0]], 4
    for encoder in encoders[1:]:
        head = fit_head(TeacherVectors(encoder[:400], chain[-1][:400]), HeadRecipe(added_dim=added, epochs=5))
        with torch.no_grad():
            chain.append(head(torch.from_numpy(encoder)).embedding.numpy())
    assert [rows.shape[1] for rows in chain] == [8, 14, 16, 18]
    relevance = Relevance.of_pairs(100)
    for newest in range(1, 4):
        for older in range(newest):
            value = rank(chain[newest][400:], chain[older][400:], relevance).metric("recall@10")
            assert value > 0.9, f"update {newest} on the gallery of update {older}: {value}"


def test_too_few_pairs_are_warned_about():
    vectors = teachers(10)
    with pytest.warns(UserWarning, match=r"20 pairs for old_dim = 16: below 32 the Procrustes rotation is arbitrary"):
        fit_head(vectors, QUICK)
    with warnings.catch_warnings(action="error"):
        fit_head(teachers(40), QUICK)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: TeacherVectors([[1, 0]], [[1]], [[1, 0]]), "`new_documents` and `old_documents` belong together"),
        (lambda: TeacherVectors([[1, 0]], [[1], [1]]), "must be of one length, at least 1, got {'new_queries': 1, "),
        (lambda: TeacherVectors([], []), "must be of one length, at least 1"),
        (lambda: fit_head(TeacherVectors([[1, np.nan]], [[1]])), "`new_queries` must be rows of finite numbers"),
        (lambda: fit_head(TeacherVectors([[1, 0]], [[0]])), "`old_queries` must be rows .* none of them zero"),
        (lambda: fit_head(teachers(40), HeadRecipe(added_dim=17)), "added_dim <= old_dim"),
        (lambda: HeadRecipe(epochs=0), "`epochs` must be positive, got 0"),
        (lambda: HeadRecipe(batch_size=0), "`batch_size` must be positive, got 0"),
        (lambda: HeadRecipe(lr=0), "`lr` must be positive, got 0"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.slow
def test_fitting_takes_seconds():
    """2,400 pairs of width 384: at most 10 s of processor time on one thread."""
    rng = np.random.default_rng(0)
    sides = [unit_rows(rng.normal(size=(2400, 384))) for _ in range(4)]
    torch.set_num_threads(1)
    begin = time.process_time()
    fit_head(TeacherVectors(*sides))
    assert time.process_time() - begin < 10
