# SPDX-License-Identifier: Apache-2.0
"""Newton-Schulz against the polar factor, its two ways of computing against each other, and what it must not touch."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.linalg import newton_schulz, newton_schulz_factor


def with_singular_values(values: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    u = torch.linalg.qr(torch.randn(rows, len(values), dtype=values.dtype)).Q
    v = torch.linalg.qr(torch.randn(columns, len(values), dtype=values.dtype)).Q
    return u * values @ v.mT


def plain_iteration(x, triples):
    x = x / (x.norm() + 1e-7)
    for a, b, c in triples:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(16, 16), (40, 10), (10, 40), (200, 7), (1, 5), (5, 1), (3, 12, 30)])
def test_it_is_the_published_iteration(shape):
    x = torch.randn(*shape, dtype=torch.float64)
    expected = [plain_iteration(m, [(3.4445, -4.7750, 2.0315)] * 5) for m in x.reshape(-1, *shape[-2:])]
    assert_close(newton_schulz(x).reshape(-1, *shape[-2:]), torch.stack(expected), atol=1e-9, rtol=0)


@pytest.mark.parametrize("coefficients", ["fixed", "per_step"])
@pytest.mark.parametrize("shape", [(16, 16), (64, 16), (16, 64)])
def test_singular_values_come_near_one_and_vectors_stay(coefficients, shape):
    x = with_singular_values(torch.linspace(0.2, 1, 16), *shape)
    result = newton_schulz(x, coefficients=coefficients)
    values = torch.linalg.svdvals(result)
    assert ((values > 0.65) & (values < 1.25)).all()
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    inside = u.mT @ result @ vh.mT
    assert_close(inside, inside.diagonal().diag(), atol=1e-4, rtol=0)


def test_it_is_symmetric_under_transposition():
    for shape in [(30, 8), (12, 12)]:
        x = torch.randn(*shape)
        assert_close(newton_schulz(x.mT).mT, newton_schulz(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rank", [3, 10])
def test_the_gram_matrix_is_enough(rank):
    """Also for a matrix that lacks directions, where the squared condition number could hurt."""
    x = with_singular_values(torch.logspace(0, -2, rank), 50, 10)
    factor = newton_schulz_factor(x.mT @ x)
    assert_close(x @ factor, newton_schulz(x.double()).float(), atol=1e-3, rtol=0)
    halves = x[:20].mT @ x[:20] + x[20:].mT @ x[20:]  # rows on two machines
    assert_close(x @ newton_schulz_factor(halves), x @ factor, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_input_is_only_read(dtype):
    x = torch.randn(6, 4).to(dtype)
    before = x.clone()
    result = newton_schulz(x, dtype=torch.bfloat16)
    assert result.dtype == dtype and x.equal(before)
    newton_schulz(x, steps=0).zero_()
    assert x.equal(before)


def test_degenerate_matrices():
    assert newton_schulz(torch.zeros(4, 3)).abs().max() == 0
    assert newton_schulz_factor(torch.zeros(2, 3, 3)).isfinite().all()
    assert newton_schulz(torch.zeros(0, 3)).shape == (0, 3)
    huge = newton_schulz(torch.randn(8, 4) * 1e15)
    assert huge.isfinite().all() and huge.norm() > 1
    assert newton_schulz(torch.full((3, 3), torch.nan)).isnan().all()
    assert_close(newton_schulz(torch.eye(3), steps=0), torch.eye(3) / 3**0.5)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`coefficients` must be one of fixed, per_step, got 'best'"):
        newton_schulz(torch.eye(2), coefficients="best")
    with pytest.raises(ValueError, match="`steps` must not be negative"):
        newton_schulz(torch.eye(2), steps=-1)
