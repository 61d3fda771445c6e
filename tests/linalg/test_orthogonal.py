# SPDX-License-Identifier: Apache-2.0
"""Distances from orthonormality, orthonormal frames and Procrustes rotations against their float64 definitions."""

import pytest
import torch

from eigenhub.linalg import gram_defect, orthonormality_defect, orthonormalize, procrustes, random_orthogonal
from eigenhub.linalg.orthogonal import smooth_norm


def frame(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5), (1, 1), (63, 31), (2, 4, 9, 5)], ids=str)
@pytest.mark.parametrize("eps", [0.0, 1e-3, 2.0])
def test_definition_batched(shape, eps):
    x = frame(*shape)
    eye = torch.eye(shape[-1], dtype=x.dtype)
    defect = x.mT @ x - eye
    torch.testing.assert_close(gram_defect(x), defect, rtol=1e-13, atol=1e-13)
    expected = (defect.square().sum((-2, -1)) + eps**2).sqrt() - eps
    found = orthonormality_defect(x, eps)
    assert found.shape == x.shape[:-2]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for index in torch.cartesian_prod(*[torch.arange(n) for n in shape[:-2]]) if len(shape) > 2 else []:
        one = x[tuple(index.tolist())]
        torch.testing.assert_close(
            orthonormality_defect(one, eps), found[tuple(index.tolist())], rtol=1e-13, atol=1e-13
        )


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_gradient(eps):
    x = frame(2, 6, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: orthonormality_defect(y, eps), x)
    exact = torch.eye(5, 3, dtype=torch.float64, requires_grad=True)
    orthonormality_defect(exact, eps).backward()
    assert torch.equal(exact.grad, torch.zeros(5, 3, dtype=torch.float64))


def test_resolves_small_defects():
    """The expansion ||G||^2 - 2 tr G + r would give zero here."""
    x = torch.eye(64, 32) * (1 + 1e-5)
    assert orthonormality_defect(x).item() == pytest.approx(2e-5 * 32**0.5, rel=2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    x = torch.linalg.qr(frame(96, 24, dtype=torch.float32)).Q.to(dtype)
    found = orthonormality_defect(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, orthonormality_defect(x.double()).float(), rtol=1e-3, atol=0)


def test_smooth_norm_between_its_limits():
    defect = frame(3, 4, 4)
    plain = torch.linalg.matrix_norm(defect)
    assert torch.equal(smooth_norm(defect), plain)
    for eps in (1e-6, 1e-1, 10.0):
        smooth = smooth_norm(defect, eps)
        assert (smooth <= plain).all() and (smooth >= plain - eps).all()
    torch.testing.assert_close(smooth_norm(defect, 1e6), plain.square() / 2e6, rtol=1e-3, atol=0)
    assert smooth_norm(torch.zeros(2, 2), 1e-3).item() == 0.0


@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (1, 1), (2, 6, 3)], ids=str)
def test_orthonormalize_keeps_span_and_signs(shape):
    x = frame(*shape)
    q = orthonormalize(x)
    assert (gram_defect(q)).abs().max() < 1e-13
    torch.testing.assert_close(q @ (q.mT @ x), x, rtol=1e-12, atol=1e-12)
    assert ((q.mT @ x).diagonal(dim1=-2, dim2=-1) > 0).all()
    torch.testing.assert_close(orthonormalize(q), q, rtol=0, atol=1e-14)
    assert orthonormalize(x.bfloat16()).dtype == torch.float32


def test_random_orthogonal_is_uniform_and_reproducible():
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([random_orthogonal(3, generator) for _ in range(4000)]).double()
    assert gram_defect(draws).abs().max() < 1e-5
    assert draws.mean(0).abs().max() < 0.04  # three standard errors
    torch.testing.assert_close(draws.square().mean(0), torch.full((3, 3), 1 / 3).double(), rtol=0, atol=0.02)
    assert 0.45 < (torch.linalg.det(draws) > 0).double().mean() < 0.55
    same = torch.Generator().manual_seed(1)
    assert torch.equal(random_orthogonal(3, same).double(), draws[0])


def test_random_orthogonal_ignores_a_half_precision_default():
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        q = random_orthogonal(16)
    finally:
        torch.set_default_dtype(before)
    assert q.dtype == torch.float32 and gram_defect(q).abs().max() < 1e-5


@pytest.mark.parametrize(("n", "m"), [(6, 6), (8, 5), (5, 8)])
def test_procrustes_is_scipys_and_optimal(n, m):
    from scipy.linalg import orthogonal_procrustes

    x, y = frame(40, n), frame(40, m, seed=1)
    w = procrustes(x, y)
    assert gram_defect(w if n >= m else w.mT).abs().max() < 1e-13
    if n == m:
        torch.testing.assert_close(w, torch.from_numpy(orthogonal_procrustes(x.numpy(), y.numpy())[0]))
    best = ((x @ w) * y).sum()
    for seed in range(200):
        square = torch.linalg.qr(frame(max(n, m), max(n, m), seed=seed + 2)).Q
        assert ((x @ square[:n, :m]) * y).sum() < best


def test_procrustes_recovers_a_rotation_in_float32():
    turn = random_orthogonal(32, torch.Generator().manual_seed(0))
    x = frame(100, 32, dtype=torch.float32)
    found = procrustes(x, x @ turn)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, turn, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"`x` and `y` must be paired rows, got shapes \(100, 32\) and \(99, 32\)"):
        procrustes(x, x[1:])
