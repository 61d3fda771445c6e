# SPDX-License-Identifier: Apache-2.0
"""Products of reflections against their definition in float64, and orthonormal frames taken apart and put together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenhub.linalg import gram_defect
from eigenhub.linalg.householder import (
    BLOCK,
    factor_frame,
    householder_frame,
    householder_product,
    householder_product_reference,
)


def gaussian(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 64), st.integers(1, 80), st.integers(0, 999), st.sampled_from(["cols", "rows"]))
def test_any_shape_is_the_product_of_the_reflections(d, k, seed, side):
    vectors = gaussian(d, k, seed=seed)
    r = 1 + seed % d
    expected = householder_product_reference(vectors, r, side)
    torch.testing.assert_close(householder_product(vectors, r, side), expected, rtol=0, atol=1e-12)
    found = householder_product(vectors.float(), r, side)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-5)


def test_the_reference_is_the_matrix_of_the_definition():
    vectors = gaussian(6, 3)
    expected = torch.eye(6, dtype=torch.float64)
    for v in vectors.unbind(1):
        expected = expected @ (torch.eye(6, dtype=torch.float64) - 2 * torch.outer(v, v) / (v @ v))
    torch.testing.assert_close(householder_product_reference(vectors), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(householder_product_reference(vectors, 2, "rows"), expected[:2], rtol=0, atol=1e-14)


@pytest.mark.parametrize("k", [0, 1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_whole_products_are_orthogonal_with_determinant_minus_one_to_the_k(k):
    q = householder_product(gaussian(2, 3, 40, k))
    assert q.shape == (2, 3, 40, 40)
    assert gram_defect(q).abs().max() < 1e-12
    torch.testing.assert_close(torch.linalg.det(q), torch.full((2, 3), (-1.0) ** k, dtype=torch.float64))


@pytest.mark.parametrize("side", ["cols", "rows"])
@pytest.mark.parametrize("k", [4, 2 * BLOCK + 3])
def test_batches_are_their_members(side, k):
    vectors = gaussian(2, 3, 17, k)
    found = householder_product(vectors, 5, side)
    for i in range(2):
        for j in range(3):
            alone = householder_product(vectors[i, j], 5, side)
            torch.testing.assert_close(found[i, j], alone, rtol=0, atol=1e-14)
    mapped = torch.vmap(lambda y: householder_product(y, 5, side))(vectors[0])
    torch.testing.assert_close(mapped, found[0], rtol=0, atol=1e-14)


def test_cols_and_rows_are_parts_of_one_matrix():
    vectors = gaussian(20, 90)
    q = householder_product(vectors)
    torch.testing.assert_close(householder_product(vectors, 7), q[:, :7], rtol=0, atol=1e-13)
    torch.testing.assert_close(householder_product(vectors, 7, "rows"), q[:7], rtol=0, atol=1e-13)
    torch.testing.assert_close(householder_product(vectors.flip(1), 7).mT, q[:7], rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(7, 3), (40, 10), (5, 5)])
def test_parity_with_torch(shape):
    """LAPACK's form: a unit lower triangle, and tau = 2 / |v|^2."""
    lower = gaussian(2, *shape).tril(-1)
    tau = 2 / (1 + lower.square().sum(-2))
    expected = torch.linalg.householder_product(lower, tau)
    torch.testing.assert_close(householder_frame(lower), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("side", ["cols", "rows"])
@pytest.mark.parametrize("k", [3, 6])
def test_first_and_second_derivatives(side, k, monkeypatch):
    monkeypatch.setattr("eigenhub.linalg.householder.BLOCK", 4)  # k = 6 goes in two blocks
    vectors = gaussian(2, 5, k).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: householder_product(y, 3, side), vectors)
    assert torch.autograd.gradgradcheck(lambda y: householder_product(y, 3, side), vectors)
    assert torch.autograd.gradgradcheck(householder_frame, gaussian(5, 2, seed=1).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lengths_of_columns_carry_no_meaning(dtype):
    vectors = gaussian(30, 70, dtype=dtype).requires_grad_()
    weight = gaussian(30, 4, dtype=dtype, seed=1)
    (gradient,) = torch.autograd.grad((householder_product(vectors, 4) * weight).sum(), vectors)
    cosine = (gradient * vectors).sum(0).abs() / (gradient.norm(dim=0) * vectors.norm(dim=0))
    assert cosine.max() < (1e-5 if dtype == torch.float32 else 1e-13)

    scale = torch.logspace(-18, 18, 70, dtype=dtype)[torch.randperm(70, generator=torch.Generator().manual_seed(0))]
    spread = (vectors.detach() * scale).requires_grad_()
    found = householder_product(spread, 4)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(found, householder_product(vectors, 4), rtol=0, atol=tolerance)
    (scaled,) = torch.autograd.grad((found * weight).sum(), spread)
    torch.testing.assert_close(scaled * scale, gradient, rtol=1e-3, atol=100 * tolerance)


@pytest.mark.parametrize("side", ["cols", "rows"])
def test_a_zero_column_is_no_reflection(side):
    vectors = gaussian(9, 5)
    vectors[:, 2] = 0
    vectors.requires_grad_()
    found = householder_product(vectors, 4, side)
    kept = vectors.detach()[:, [0, 1, 3, 4]]
    torch.testing.assert_close(found.detach(), householder_product(kept, 4, side), rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(found.sum(), vectors)
    assert torch.isfinite(gradient).all() and (gradient[:, 2] == 0).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-3])
def test_parallel_vectors_stay_orthogonal_in_float32(noise):
    line = gaussian(96, 1, dtype=torch.float32)
    vectors = (line + noise * gaussian(96, 96, dtype=torch.float32, seed=1)).requires_grad_()
    q = householder_product(vectors)
    assert gram_defect(q).abs().max() < 2e-5
    q.square().sum().backward()
    assert torch.isfinite(vectors.grad).all()


def test_half_precision_is_computed_in_float32():
    vectors = gaussian(40, 6).bfloat16()
    found = householder_product(vectors, 6)
    assert found.dtype == torch.float32 and gram_defect(found).abs().max() < 1e-6
    torch.testing.assert_close(found.double(), householder_product_reference(vectors, 6), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- frames
@pytest.mark.parametrize(("d", "r"), [(1, 1), (2, 1), (5, 5), (64, 10), (70, 69), (130, 100)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_a_frame_comes_back(d, r, dtype, tolerance):
    frame = torch.linalg.qr(gaussian(3, d, r)).Q.to(dtype)
    lower, signs = factor_frame(frame)
    assert torch.equal(lower, lower.tril(-1)) and lower.dtype == dtype
    assert (signs.abs() == 1).all()
    torch.testing.assert_close(householder_frame(lower, signs), frame, rtol=0, atol=tolerance)


@pytest.mark.parametrize("r", [1, 4, 6])
@pytest.mark.parametrize("kind", ["identity", "minus identity", "permutation", "signs", "reversed"])
def test_frames_that_lapack_reduces_already(kind, r):
    eye = torch.eye(6, dtype=torch.float64)
    frame = {
        "identity": eye,
        "minus identity": -eye,
        "permutation": eye[[2, 0, 1, 5, 3, 4]],
        "signs": eye * torch.tensor([1, -1, -1, 1, 1, -1]).double(),
        "reversed": eye.flip(0),
    }[kind][:, :r]
    torch.testing.assert_close(householder_frame(*factor_frame(frame)), frame, rtol=0, atol=1e-15)


def test_thin_frames_have_the_parameters_of_the_stiefel_manifold():
    """Entries that are not read get no gradient; the rest moves the frame in as many directions as there are."""
    lower = gaussian(6, 3)
    jacobian = torch.autograd.functional.jacobian(householder_frame, lower).reshape(18, 18)
    read = torch.ones(6, 3).tril(-1).flatten() == 1
    assert read.sum() == 6 * 3 - 3 * 4 // 2
    assert (jacobian[:, ~read] == 0).all()
    assert torch.linalg.matrix_rank(jacobian) == read.sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: householder_product(torch.ones(4, 2), 0), "`r` must be between 1 and d = 4, got 0"),
        (lambda: householder_product(torch.ones(4, 2), 5), "`r` must be between 1 and d = 4, got 5"),
        (lambda: householder_product(torch.ones(4)), r"`vectors` must have shape \(..., d, k\), got \(4,\)"),
        (lambda: householder_product(torch.ones(4, 2), 2, "left"), "`side` must be one of cols, rows; got 'left'"),
        (lambda: householder_frame(torch.ones(2, 3)), r"`lower` must have shape .* with 1 <= r <= d, got \(2, 3\)"),
        (lambda: factor_frame(torch.ones(2, 3)), r"`frame` must have shape .* with 1 <= r <= d, got \(2, 3\)"),
        (lambda: factor_frame(torch.ones(3, 2)), r"must have orthonormal columns, but .* 3.0e\+00 off"),
        (lambda: factor_frame(torch.full((3, 2), float("nan"))), "must have orthonormal columns"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
