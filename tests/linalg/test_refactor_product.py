# SPDX-License-Identifier: Apache-2.0
"""The refactorisation of a product against LAPACK on the dense product."""

import pytest
import torch

from eigenhub.linalg import refactor_product


SHAPES = [(12, 3, 20), (20, 3, 12), (9, 9, 9), (6, 1, 5), (7, 5, 5), (3, 5, 11)]  # the last: fewer rows than rank


def factors(m: int, r: int, n: int, *batch: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn(*batch, m, r, generator=generator, dtype=torch.float64)
    return b, torch.randn(*batch, r, n, generator=generator, dtype=torch.float64)


def assert_refactored(found, b: torch.Tensor, a: torch.Tensor) -> None:
    new_b, s, new_a = found
    assert new_b.shape == b.shape and new_a.shape == a.shape
    assert (new_b @ new_a - b @ a).norm() <= 1e-13 * max((b @ a).norm(), 1e-30)
    assert (new_a @ new_a.mT - torch.eye(a.shape[-2], dtype=torch.float64)).abs().max() < 1e-13
    assert torch.allclose(new_b.norm(dim=-2)[..., : s.shape[-1]], s, rtol=1e-12, atol=1e-14)
    assert (s.diff(dim=-1) <= 1e-14).all()
    pivot = new_a.abs().argmax(-1, keepdim=True)
    assert (new_a.gather(-1, pivot) > 0).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product_orthonormality_order_and_signs(shape):
    b, a = factors(*shape)
    assert_refactored(refactor_product(b, a), b, a)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_factors_are_those_of_the_dense_decomposition(shape):
    b, a = factors(*shape)
    new_b, s, new_a = refactor_product(b, a)
    u, dense_s, vh = torch.linalg.svd(b @ a, full_matrices=False)
    rank = len(s)
    assert torch.allclose(s, dense_s[:rank], rtol=1e-12)
    signs = (new_a[:rank] * vh[:rank]).sum(-1).sign()
    assert torch.allclose(new_a[:rank], vh[:rank] * signs[:, None], atol=1e-10)
    assert torch.allclose(new_b[:, :rank], u[:, :rank] * s * signs, atol=1e-10)


def test_a_stack_is_a_loop():
    b, a = factors(10, 4, 8, 2, 3)
    stacked = refactor_product(b, a)
    for i in range(2):
        for j in range(3):
            single = refactor_product(b[i, j], a[i, j])
            assert all(torch.allclose(x[i, j], y, atol=1e-12) for x, y in zip(stacked, single, strict=True))


def test_a_second_time_changes_nothing():
    once = refactor_product(*factors(10, 4, 8))
    twice = refactor_product(once[0], once[2])
    assert all(torch.allclose(x, y, atol=1e-12) for x, y in zip(once, twice, strict=True))


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_rows_stay_in_the_row_space_where_b_lacks_rank(rank):
    b, a = factors(10, 4, 8)
    b = b[:, :rank] @ torch.randn(rank, 4, dtype=torch.float64) if rank else torch.zeros_like(b)
    new_b, s, new_a = refactor_product(b, a)
    q = torch.linalg.qr(a.mT).Q
    assert (new_a - new_a @ q @ q.mT).norm() < 1e-12
    assert (new_a @ new_a.mT - torch.eye(4, dtype=torch.float64)).abs().max() < 1e-13
    assert (new_b @ new_a - b @ a).abs().max() < 1e-12
    assert int((s > 1e-12 * max(s[0], 1)).sum()) == rank


def test_singular_values_over_many_decades():
    """A Gram matrix would lose everything below the square root of the rounding unit."""
    b, a = factors(30, 6, 40)
    b = torch.linalg.qr(b).Q * torch.logspace(0, -12, 6, dtype=torch.float64)
    a = torch.linalg.qr(a.mT).Q.mT
    new_b, s, new_a = refactor_product(b, a)
    assert torch.allclose(s, torch.logspace(0, -12, 6, dtype=torch.float64), rtol=1e-3)
    assert (new_b @ new_a - b @ a).norm() < 1e-14


def test_signs_may_be_left_alone():
    b, a = factors(10, 4, 8)
    kept, fixed = (refactor_product(b, a, rule) for rule in ("none", "largest_positive"))
    assert torch.allclose(kept[2].abs(), fixed[2].abs(), atol=1e-13)
    assert torch.allclose(kept[0] @ kept[2], fixed[0] @ fixed[2], atol=1e-13)


def test_half_precision_is_computed_in_float64():
    b, a = (factor.bfloat16() for factor in factors(10, 4, 8))
    new_b, _, new_a = refactor_product(b, a)
    assert new_b.dtype == new_a.dtype == torch.float64
    assert (new_b @ new_a - b.double() @ a.double()).abs().max() < 1e-13


@pytest.mark.parametrize(
    ("b", "a", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(3, 5), "must share r, got \\(4, 2\\) and \\(3, 5\\)"),
        (torch.zeros(4), torch.zeros(4, 5), "must share r"),
        (torch.zeros(4, 6), torch.zeros(6, 5), "6 rows cannot be orthonormal in 5 dimensions"),
        (torch.full((4, 2), torch.nan), torch.zeros(2, 5), "`b` has entries that are NaN"),
        (torch.zeros(4, 2), torch.full((2, 5), torch.inf), "`a` has entries that are NaN or infinite"),
    ],
)
def test_bad_factors_are_refused(b, a, message):
    with pytest.raises(ValueError, match=message):
        refactor_product(b, a)


def test_an_unknown_sign_rule_is_refused():
    with pytest.raises(ValueError, match="`sign_rule` must be one of largest_positive, none; got 'plus'"):
        refactor_product(torch.zeros(3, 2), torch.zeros(2, 3), "plus")
