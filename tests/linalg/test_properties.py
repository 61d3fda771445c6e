# SPDX-License-Identifier: Apache-2.0
"""What defines each function of `eigenhub.linalg`, on inputs of any size, layout and precision."""

import pytest
import torch
from hypothesis import strategies as st

from eigenhub.linalg import (
    cayley,
    cayley_apply,
    column_scores,
    dct,
    dct_matrix,
    factor_frame,
    fix_signs,
    full_precision_matmul,
    gram_defect,
    householder_frame,
    householder_product,
    idct,
    low_rank_cayley_apply,
    newton_schulz,
    newton_schulz_factor,
    orthonormality_defect,
    orthonormalize,
    procrustes,
    random_orthogonal,
    refactor_product,
    select_basis,
    skew_matrix,
    subspace_angles,
    top_columns,
    truncated_product_svd,
    truncated_svd,
)
from eigenhub.linalg.householder import householder_product_reference
from tests.reliability.properties import FEW, FLOATS, HALVES, MANY, SEEDS, assert_near, check, gaussian, tolerance


SIZES = st.integers(1, 33)
TRANSFORMS = st.sampled_from(["fft", "matmul"])


def dct_is_its_matrix_and_idct_its_inverse(n, batch, dtype, transform, seed):
    x = gaussian(*batch, n, seed=seed, dtype=dtype)
    found, atol = dct(x, transform), tolerance(dtype, n)
    assert found.dtype == dtype
    assert_near(found, x.double() @ dct_matrix(n).mT, atol)
    assert_near(idct(found, transform), x, atol)
    assert_near(gram_defect(dct_matrix(n)), torch.zeros(n, n), tolerance(torch.float64, n))
    assert_near(dct(2 * x + x.flip(-1), transform), 2 * found + dct(x.flip(-1), transform), 4 * atol)


def dct_takes_half_precision(n, dtype, transform, seed):
    x = gaussian(3, n, seed=seed, dtype=dtype)
    found = dct(x, transform)
    assert found.dtype == dtype
    assert_near(found, dct(x.double()), 4 * torch.finfo(dtype).eps * (1 + n**0.5))


def dct_has_the_inverse_as_gradient(n, transform, seed):
    x, weight = gaussian(2, n, seed=seed).requires_grad_(), gaussian(2, n, seed=seed + 1)
    (gradient,) = torch.autograd.grad((dct(x, transform) * weight).sum(), x)
    assert_near(gradient, idct(weight), tolerance(torch.float64, n))


def the_best_columns_are_kept(m, n, rank, norm, seed):
    x, rank = gaussian(2, m, n, seed=seed), min(rank, n)
    scores = column_scores(x, norm)
    assert_near(scores, x.abs().pow(norm).sum(-2), tolerance(torch.float64, m))
    kept = top_columns(scores, rank)
    assert (kept.diff() > 0).all()
    assert scores.gather(-1, kept).min() >= scores.sort(descending=True).values[..., rank - 1].min()
    indices, coefficients = select_basis(x, rank, norm)
    expected = (x @ dct_matrix(n).mT).gather(-1, indices[:, None].expand(2, m, rank))
    assert_near(coefficients, expected, tolerance(torch.float64, n))
    if norm == 2:
        lost = x.square().sum((1, 2)) - coefficients.square().sum((1, 2))
        assert (lost <= (1 - rank / n) * x.square().sum((1, 2)) + 1e-9).all()


def reflections_agree_with_their_definition(d, k, seed):
    vectors, weight = gaussian(d, k, seed=seed).requires_grad_(), gaussian(d, d, seed=seed + 1)
    found, expected = householder_product(vectors), householder_product_reference(vectors)
    assert_near(found, expected, tolerance(torch.float64, d + k))
    assert_near(gram_defect(found), torch.zeros(d, d), tolerance(torch.float64, d + k))
    if k:
        ours, theirs = (torch.autograd.grad((q * weight).sum(), vectors)[0] for q in (found, expected))
        scale = 1 + theirs.detach().abs().max().item()
        assert_near(ours, theirs, scale * tolerance(torch.float64, (d + k) ** 2))


def a_frame_is_taken_apart_and_put_together(d, r, dtype, seed):
    r = min(r, d)
    frame = orthonormalize(gaussian(2, d, r, seed=seed)).to(dtype)
    lower, signs = factor_frame(frame)
    assert_near(householder_frame(lower, signs), frame, tolerance(dtype, d, 200))


def singular_triplets_are_those_of_the_matrix(m, n, rank, seed):
    matrix, rank = gaussian(m, n, seed=seed), min(rank, m, n)
    u, s, vh = truncated_svd(matrix, rank, driver="full")
    atol = tolerance(torch.float64, m + n)
    assert_near(s, torch.linalg.svdvals(matrix)[:rank], atol)
    assert_near(gram_defect(u), torch.zeros(rank, rank), atol)
    assert_near(gram_defect(vh.mT), torch.zeros(rank, rank), atol)
    assert_near(matrix @ vh.mT, u * s, 10 * atol)
    fixed = fix_signs(-u, -vh)
    assert torch.equal(fixed[0], u) and torch.equal(fixed[1], vh)


def a_product_keeps_its_triplets(m, n, r, seed):
    b, a = gaussian(2, m, r, seed=seed), gaussian(2, r, n, seed=seed + 1)
    rank = min(m, n, r)
    u, s, vh = truncated_product_svd(b, a, rank)
    atol = tolerance(torch.float64, m + n + r) * (1 + s.max().item())
    assert_near((u * s[..., None, :]) @ vh, b @ a, atol)
    if r <= n:
        left, values, right = refactor_product(b, a)
        assert_near(left @ right, b @ a, atol)
        assert_near(gram_defect(right.mT), torch.zeros(2, r, r), tolerance(torch.float64, n))
        assert_near(values[..., :rank], s, atol)


def angles_are_symmetric_and_blind_to_the_basis(m, r, seed):
    r = min(r, m)
    x, y = (orthonormalize(gaussian(m, r, seed=seed + k)) for k in (0, 1))
    turn = random_orthogonal(r, torch.Generator().manual_seed(seed)).double()
    angles = subspace_angles(x, y)
    assert_near(subspace_angles(y, x), angles, 1e-7)
    assert_near(subspace_angles(x @ orthonormalize(turn), y), angles, 1e-7)
    assert subspace_angles(x, x @ orthonormalize(turn)).max() < 1e-7


def newton_schulz_is_odd_and_blind_to_scale(m, n, dtype, seed):
    x = gaussian(2, m, n, seed=seed, dtype=dtype)
    found = newton_schulz(x)
    assert found.dtype == dtype and found.shape == x.shape
    atol = tolerance(dtype, m + n, 5000)
    assert_near(newton_schulz(-x), -found, atol)
    assert_near(newton_schulz(x.mT), found.mT, atol)
    assert_near(newton_schulz(64 * x), found, atol + 1e-4)
    assert torch.linalg.svdvals(found.double()).max() < 1.3
    if m >= 2 * n:
        assert_near(x @ newton_schulz_factor(x.mT @ x), found, atol)


def frames_are_orthonormal_and_nearest(m, r, dtype, seed):
    r = min(r, m)
    x = gaussian(2, m, r, seed=seed, dtype=dtype)
    frame = orthonormalize(x)
    assert gram_defect(frame).abs().max() < tolerance(dtype, m)
    assert (orthonormality_defect(frame) < tolerance(dtype, m) * r).all()
    assert_near(orthonormalize(frame), frame, tolerance(dtype, m))
    source, target = gaussian(m + 3, m, seed=seed), gaussian(m + 3, r, seed=seed + 1)
    best = procrustes(source, target)
    other = orthonormalize(gaussian(m, r, seed=seed + 2))
    assert gram_defect(best).abs().max() < tolerance(torch.float64, m)
    assert ((source @ best) * target).sum() >= ((source @ other) * target).sum() - 1e-9


def a_drawn_matrix_is_orthogonal_and_the_same_again(n, seed):
    first, again = (random_orthogonal(n, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(first, again) and gram_defect(first).abs().max() < tolerance(torch.float32, n)


def rotations_are_applied_as_formed(d, r, rows, dtype, seed):
    lower = gaussian(d * (d - 1) // 2, seed=seed, dtype=dtype)
    skew, x = skew_matrix(lower, d), gaussian(rows, d, seed=seed + 1, dtype=dtype)
    assert torch.equal(skew, -skew.mT)
    turn, atol = cayley(skew), tolerance(dtype, d, 500)
    assert gram_defect(turn).abs().max() < atol
    assert_near(cayley(-skew), turn.mT, atol)
    assert_near(cayley_apply(skew, x), x @ turn.mT, atol)
    left, right = (0.3 * gaussian(d, r, seed=seed + k, dtype=dtype) for k in (2, 3))
    expected = cayley_apply(left @ right.mT - right @ left.mT, x)
    assert_near(low_rank_cayley_apply(left, right, x), expected, atol)


def products_are_exact_and_the_switches_come_back(n, seed):
    x = gaussian(n, n, seed=seed, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision_matmul("cpu"):
            found = x @ x
        assert (x @ x).dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert_near(found, x.double() @ x.double(), tolerance(torch.float32, n) * (1 + x.abs().max().item() ** 2))


BATCHES = st.sampled_from([(), (0,), (3,), (2, 1), (2, 0, 3)])
PROPERTIES = [
    (dct_is_its_matrix_and_idct_its_inverse, dict(n=SIZES, batch=BATCHES, dtype=FLOATS, transform=TRANSFORMS)),
    (dct_takes_half_precision, dict(n=SIZES, dtype=HALVES, transform=TRANSFORMS)),
    (dct_has_the_inverse_as_gradient, dict(n=SIZES, transform=TRANSFORMS)),
    (the_best_columns_are_kept, dict(m=st.integers(0, 9), n=SIZES, rank=SIZES, norm=st.sampled_from([1, 2]))),
    (reflections_agree_with_their_definition, dict(d=st.integers(1, 17), k=st.integers(0, 40))),
    (a_frame_is_taken_apart_and_put_together, dict(d=SIZES, r=SIZES, dtype=FLOATS)),
    (singular_triplets_are_those_of_the_matrix, dict(m=SIZES, n=SIZES, rank=SIZES)),
    (a_product_keeps_its_triplets, dict(m=SIZES, n=SIZES, r=st.integers(1, 9))),
    (angles_are_symmetric_and_blind_to_the_basis, dict(m=SIZES, r=SIZES)),
    (newton_schulz_is_odd_and_blind_to_scale, dict(m=SIZES, n=SIZES, dtype=FLOATS)),
    (frames_are_orthonormal_and_nearest, dict(m=SIZES, r=SIZES, dtype=FLOATS)),
    (a_drawn_matrix_is_orthogonal_and_the_same_again, dict(n=SIZES)),
    (rotations_are_applied_as_formed, dict(d=SIZES, r=st.integers(1, 4), rows=st.integers(0, 5), dtype=FLOATS)),
    (products_are_exact_and_the_switches_come_back, dict(n=SIZES)),
]


@pytest.mark.parametrize(("statement", "strategies"), PROPERTIES, ids=lambda value: getattr(value, "__name__", ""))
def test_holds(statement, strategies):
    check(statement, strategies | {"seed": SEEDS}, FEW)


@pytest.mark.slow
@pytest.mark.parametrize(("statement", "strategies"), PROPERTIES, ids=lambda value: getattr(value, "__name__", ""))
def test_holds_on_many(statement, strategies):
    check(statement, strategies | {"seed": SEEDS}, MANY)
