# SPDX-License-Identifier: Apache-2.0
"""The Cayley map in its three forms against the formula, torch's own and each other."""

import pytest
import torch

from eigenhub.linalg import cayley, cayley_apply, gram_defect, low_rank_cayley_apply, skew_matrix


def parameters(size: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(size * (size - 1) // 2, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 63])
def test_skew_matrix_reads_the_triangle_by_rows(size):
    lower = parameters(size)
    found = skew_matrix(lower, size)
    assert torch.equal(found, -found.mT)
    rows, columns = torch.tril_indices(size, size, -1)
    assert torch.equal(found[rows, columns], lower)


def test_skew_matrix_refuses_another_length():
    with pytest.raises(ValueError, match=r"`lower` must have shape \(6,\) for size 4, got \(5,\)"):
        skew_matrix(torch.zeros(5), 4)


@pytest.mark.parametrize("size", [1, 2, 7, 63])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_cayley_is_a_rotation_without_eigenvalue_minus_one(size, scale):
    skew = skew_matrix(parameters(size, scale), size)
    rotation = cayley(skew)
    eye = torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(rotation, torch.linalg.inv(eye - skew / 2) @ (eye + skew / 2), rtol=0, atol=1e-9)
    assert gram_defect(rotation).abs().max() < 1e-11
    assert torch.linalg.det(rotation) == pytest.approx(1.0)
    assert (torch.linalg.eigvals(rotation) + 1).abs().min() > 0


def test_cayley_is_the_exponential_up_to_third_order():
    skew = skew_matrix(parameters(9), 9)
    errors = [(cayley(t * skew) - torch.matrix_exp(t * skew)).abs().max().item() for t in (1e-2, 2e-2)]
    assert errors[1] / errors[0] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("size", [1, 2, 7, 63])
def test_applied_is_formed(size):
    skew = skew_matrix(parameters(size), size)
    x = torch.randn(5, size, dtype=torch.float64)
    torch.testing.assert_close(cayley_apply(skew, x), x @ cayley(skew).mT, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "rank"), [(2, 1), (7, 3), (63, 8)])
def test_low_rank_is_dense_for_the_same_generator(size, rank):
    left, right = torch.randn(2, size, rank, dtype=torch.float64)
    skew = left @ right.mT - right @ left.mT
    x = torch.randn(5, size, dtype=torch.float64)
    torch.testing.assert_close(low_rank_cayley_apply(left, right, x), cayley_apply(skew, x), rtol=0, atol=1e-10)


def test_gradients():
    lower, x = parameters(5).requires_grad_(), torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: cayley_apply(skew_matrix(a, 5), b), (lower, x))
    assert torch.autograd.gradcheck(lambda a: cayley(skew_matrix(a, 5)), (lower,))
    left, right = (torch.randn(5, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(low_rank_cayley_apply, (left, right, x))
