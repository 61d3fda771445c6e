# SPDX-License-Identifier: Apache-2.0
"""Every other way of upgrading, measured beside the head, and the report that an owner reads."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from eigenhub.models.bt2 import PATHS, HeadRecipe, Relevance, compare_paths, fit_paths, rank, report_text
from eigenhub.models.bt2.baseline_heads import WideProjection
from eigenhub.models.bt2.baseline_maps import fit_affine, fit_ridge
from eigenhub.models.bt2.baselines import BT2, PROCRUSTES
from eigenhub.models.bt2.comparison import FUSION, RE_EMBEDDING, part_of
from eigenhub.models.bt2.migration import BETTER, UNCLEAR, WORSE, EncodedTexts, migration_report
from eigenhub.models.bt2.migration_text import paths_text
from eigenhub.models.bt2.vector_training import TeacherVectors, all_rows
from tests.models.bt2.index_cases import unit_rows
from tests.models.bt2.upgrade_cases import teachers


RECIPE = HeadRecipe(added_dim=6, epochs=4, batch_size=100)


@pytest.fixture(scope="module")
def fitted():
    return fit_paths(teachers(), RECIPE)


@pytest.fixture(scope="module")
def results(fitted):
    return {result.name: result for result in compare_paths(fitted, teachers(200, seed=5))}


# ---------------------------------------------------------------- the ways


def test_ridge_against_the_normal_equations():
    vectors = teachers(60)
    new, old = all_rows(vectors.tensors())
    gram = new.double().mT @ new.double()
    weight = torch.linalg.solve(gram + 0.1 * gram.diagonal().mean() * torch.eye(20), new.double().mT @ old.double())
    expected = torch.nn.functional.normalize(new.double() @ weight, dim=1)
    assert_close(fit_ridge(new, old, 0.1)(new).double(), expected, atol=1e-6, rtol=0)


def test_least_squares_leaves_no_residual_to_explain():
    rng = torch.Generator().manual_seed(0)
    x, w = torch.randn(50, 8, generator=rng), torch.randn(8, 6, generator=rng)
    assert_close(fit_ridge(x, x @ w, 0.0)(x), torch.nn.functional.normalize(x @ w, dim=1), atol=1e-5, rtol=0)


def test_least_squares_with_too_few_rows_has_least_norm():
    x, y = torch.randn(5, 8), torch.randn(5, 3)
    expected = torch.linalg.pinv(x.double()) @ y.double()
    fresh = torch.randn(4, 8)
    assert_close(
        fit_ridge(x, y, 0.0)(fresh).double(),
        torch.nn.functional.normalize(fresh.double() @ expected, dim=1),
        atol=1e-4,
        rtol=0,
    )


def test_residual_maps_start_at_procrustes():
    vectors = teachers()
    new, _ = all_rows(vectors.tensors())
    still = fit_affine(vectors, rank=4, lr=1e-12)
    head = fit_paths(vectors, RECIPE, [PROCRUSTES])[PROCRUSTES]
    assert_close(still(new), torch.nn.functional.normalize(head.new_side(new)[:, :16], dim=1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("extra", [0, 3, 10])
def test_the_wide_start_is_procrustes_and_what_it_leaves_out(extra):
    new, old = all_rows(teachers().tensors())
    weight = WideProjection(new, old, extra).linear.weight
    there = weight[: 16 + min(extra, 4)]  # the new space has four directions more
    assert_close(there @ there.mT, torch.eye(len(there)), atol=1e-5, rtol=0)


def test_all_ways_of_the_specification_are_there(results):
    assert set(results) == {*PATHS, FUSION, RE_EMBEDDING} and len(results) == 13
    for result in results.values():
        assert 0 < result.now <= 1 and 0 < result.after <= 1
        assert result.curve.shares == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def test_isometries_lose_nothing_and_maps_into_the_old_space_do(results):
    whole = results[RE_EMBEDDING].after
    assert results[PROCRUSTES].after == pytest.approx(whole, abs=1e-9)
    assert results[BT2].after >= whole - 0.06
    for name in ("least squares new to old", "ridge 0.01 new to old", "low-rank affine new to old", "BCT, alpha 10"):
        assert results[name].after < whole - 0.03, name
    assert results["BCT, alpha 10, wide"].after > results["BCT, alpha 10"].after


def test_the_two_ways_that_need_no_fit(results):
    data = {name: rows.numpy() for name, rows in teachers(200, seed=5).tensors().items()}
    relevance = Relevance.of_pairs(200)
    old = rank(data["old_queries"], data["old_documents"], relevance).metric("mrr@10")
    new = rank(data["new_queries"], data["new_documents"], relevance).metric("mrr@10")
    waiting = results[RE_EMBEDDING]
    assert waiting.curve.values == pytest.approx((old,) * 5 + (new,))
    fused = results[FUSION]
    assert (fused.now, fused.after) == pytest.approx((old, new))
    assert fused.extra_encoders == 1 and fused.calibrated is None


def test_rank_fusion_merges_by_rank():
    """Two items in each index: the first of both come first, the wrong one before the right one."""
    eye = np.eye(4, dtype=np.float32)
    queries = np.array([[0.9, 0.8, 0.7, 0.6]], np.float32).repeat(4, 0)
    vectors = TeacherVectors(queries, queries, eye, eye)
    found = compare_paths({}, vectors, shares=(0.0, 0.5, 1.0), metric="mrr@10")[0]
    assert found.name == FUSION
    assert found.curve.values[1] == pytest.approx(np.mean([1 / 2, 1 / 2, 1 / 4, 1 / 4]))


def test_the_factor_is_judged_on_other_queries_than_it_was_chosen_on():
    relevance = Relevance.of_pairs(5)
    part = part_of(relevance, np.array([True, False, True, False, False]))
    assert [rows.tolist() for rows in part.relevant] == [[0], [2]] and part.gallery_size == 5


def test_the_table_names_every_way(results):
    text = paths_text(list(results.values()))
    assert all(name in text for name in results) and "1 more encoder per query" in text


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fit_paths(teachers(40), RECIPE, ["magic"]), "`names` must be among Procrustes .*; got 'magic'"),
        (lambda: fit_paths(TeacherVectors([[1.0]], [[1.0]]), RECIPE), "`vectors` must hold documents too"),
        (lambda: compare_paths({}, TeacherVectors([[1.0]], [[1.0]])), "`vectors` must hold documents, or nothing"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# ---------------------------------------------------------------- the report


def encoded(better=True, count=300):
    held_out = teachers(count, seed=5, better=better)
    path = fit_paths(teachers(better=better), replace(RECIPE, added_dim=6), [BT2])[BT2]
    queries, old, documents = path.gallery(held_out)
    data = {name: rows.numpy() for name, rows in held_out.tensors().items()}
    return EncodedTexts(data["old_queries"], old, data["new_queries"], data["new_documents"], queries, documents)


def test_the_report_holds_what_an_owner_asks_for():
    texts = encoded()
    relevance = Relevance.of_pairs(300)
    report = migration_report(texts, relevance, num_vectors=3_600_000, documents_per_second=500, price_per_hour=2.5)
    assert (report.num_vectors, report.hours, report.money) == (3_600_000, 2.0, 5.0)
    assert report.bytes_before == 4 * 16 * 3_600_000 and report.bytes_after == 4 * 26 * 3_600_000
    assert report.extra_storage == pytest.approx(26 / 16 - 1)
    assert report.verdict == BETTER and report.difference[0] > report.difference[1] > 0
    for side, queries, gallery in (
        ("old/old", texts.old_queries, texts.old_documents),
        ("new/old", texts.queries, texts.old_documents),
        ("new/new", texts.queries, texts.documents),
        ("independent", texts.new_queries, texts.new_documents),
    ):
        assert report.metrics[side]["recall@10"] == rank(queries, gallery, relevance).metric("recall@10")
    m = {side: values["recall@10"] for side, values in report.metrics.items()}
    assert report.gain == pytest.approx((m["new/old"] - m["old/old"]) / (m["independent"] - m["old/old"]))
    assert report.calibrated.old_scale == report.old_scale and report.plain.old_scale == 1.0
    text = " ".join(report_text(report).split())
    for part in (
        "vectors 3,600,000",
        "hours to embed them anew 2.0",
        "money 5.00",
        "downtime none",
        f"{m['old/old']:.3f} -> {m['new/old']:.3f} -> {m['new/new']:.3f}",
        "230 MB -> 374 MB",
        "144 MB (+62%)",
        "The new encoder is better on these texts",
    ):
        assert part in text, f"{part!r} is not in\n{text}"
    json.dumps(report.to_dict())


def test_an_upgrade_that_brings_nothing_is_called_so():
    report = migration_report(encoded(better=False), Relevance.of_pairs(300), num_vectors=10, documents_per_second=1)
    assert report.verdict == WORSE and report.gain is None
    assert "NOTHING TO GAIN: the new encoder is not better than the old one on these texts" in report_text(report)
    assert "money" not in report_text(report)


def test_few_queries_decide_nothing():
    """One query better out of forty is no difference."""
    rng = np.random.default_rng(0)
    documents = unit_rows(rng.normal(size=(40, 8)))
    queries = unit_rows(documents + 1.5 * unit_rows(rng.normal(size=(40, 8))))
    relevance = Relevance.of_pairs(40)
    missed = np.flatnonzero(rank(queries, documents, relevance).values("recall@10") == 0)
    better = queries.copy()
    better[missed[0]] = documents[missed[0]]
    texts = EncodedTexts(queries, documents, better, documents, better, documents)
    report = migration_report(texts, relevance, num_vectors=1, documents_per_second=1)
    assert report.verdict == UNCLEAR and report.difference == pytest.approx(
        (1 / 40, 1.96 * np.sqrt(1 / 40) / np.sqrt(40))
    )
    assert "is not clearly better on these texts" in report_text(report)


def test_a_report_about_nothing():
    with pytest.raises(ValueError, match="`num_vectors` and `documents_per_second` must be positive, got 0, 1"):
        migration_report(encoded(), Relevance.of_pairs(300), num_vectors=0, documents_per_second=1)


def test_a_report_about_vectors_that_are_too_narrow():
    texts = encoded()
    with pytest.raises(ValueError, match="must begin with the 16 coordinates of the old encoder, got 12"):
        migration_report(
            replace(texts, queries=texts.queries[:, :12]),
            Relevance.of_pairs(300),
            num_vectors=1,
            documents_per_second=1,
        )
