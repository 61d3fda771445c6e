# SPDX-License-Identifier: Apache-2.0
"""Truncated decompositions against LAPACK in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenhub.linalg import fix_signs, lowrank, subspace_angles, truncated_product_svd, truncated_svd


def gaussian(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def with_spectrum(values: torch.Tensor, m: int, n: int, seed: int = 0) -> torch.Tensor:
    """A float64 matrix with given singular values."""
    u = torch.linalg.qr(gaussian(m, len(values), seed=seed)).Q
    v = torch.linalg.qr(gaussian(n, len(values), seed=seed + 1)).Q
    return (u * values.double()) @ v.mT


def assert_is_svd(found, matrix: torch.Tensor, rank: int, tolerance: float) -> None:
    """Shapes, orthonormality, order, signs, and the best block of the rank."""
    u, s, v = (tensor.double() for tensor in found)
    m, n = matrix.shape
    assert u.shape == (m, rank) and s.shape == (rank,) and v.shape == (rank, n)
    eye = torch.eye(rank, dtype=torch.float64)
    assert (u.mT @ u - eye).abs().max() < max(tolerance, 1e-12) and (v @ v.mT - eye).abs().max() < max(
        tolerance, 1e-12
    )
    assert (s >= 0).all() and (s.diff() <= tolerance * s[0]).all()
    assert (u.gather(0, u.abs().argmax(0, keepdim=True)) > 0).all()
    exact_u, exact_s, exact_v = torch.linalg.svd(matrix.double(), full_matrices=False)
    size = exact_s[0].clamp_min(1e-30)
    assert ((s - exact_s[:rank]).abs() / size).max() < tolerance
    block = (exact_u[:, :rank] * exact_s[:rank]) @ exact_v[:rank]
    assert torch.linalg.matrix_norm((u * s) @ v - block, 2) / size < tolerance


@pytest.mark.parametrize("driver", ["auto", "full", "gram"])
@pytest.mark.parametrize(("m", "n"), [(63, 31), (31, 63), (40, 40), (1, 9), (9, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_exact_drivers(driver, m, n, dtype):
    matrix = gaussian(m, n).to(dtype)
    for rank in {1, min(m, n) // 2 or 1, min(m, n)}:
        found = truncated_svd(matrix, rank, driver=driver)
        assert found[0].dtype == torch.promote_types(dtype, torch.float32)
        assert_is_svd(found, matrix, rank, 1e-11 if dtype == torch.float64 else 2e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 999), st.sampled_from(["full", "gram", "randomized"]))
def test_any_small_shape_is_exact(m, n, seed, driver):
    """The randomised driver too: its block covers a small matrix whole."""
    matrix = gaussian(m, n, seed=seed)
    rank = 1 + seed % min(m, n)
    found = truncated_svd(matrix, rank, driver=driver, generator=torch.Generator().manual_seed(seed))
    assert_is_svd(found, matrix, rank, 1e-7)


def test_gram_is_better_than_float32_on_wide_spectra():
    """Condition 1e6: an eigenproblem in float64 resolves what the decomposition in float32 does not."""
    values = torch.logspace(0, -6, 48)
    matrix = with_spectrum(values, 96, 48).float()
    exact = torch.linalg.svdvals(matrix.double())[:32]
    errors = {}
    for driver in ("gram", "full"):
        s = truncated_svd(matrix, 32, driver=driver)[1].double()
        errors[driver] = ((s - exact).abs() / exact).max().item()
    assert errors["gram"] < 1e-3


@pytest.mark.parametrize("driver", ["full", "gram", "randomized"])
@pytest.mark.parametrize(("m", "n"), [(20, 60), (60, 20), (50, 50)])
@pytest.mark.parametrize("true_rank", [0, 1, 5])
def test_rank_deficient(driver, m, n, true_rank):
    values = torch.linspace(3, 1, true_rank) if true_rank else torch.zeros(1)
    matrix = with_spectrum(values, m, n)
    generator = torch.Generator().manual_seed(0)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        found = truncated_svd(matrix.to(dtype), 8, driver=driver, generator=generator)
        u, s, v = found
        assert all(torch.isfinite(t).all() for t in found)
        eye = torch.eye(8, dtype=dtype)
        assert (u.mT @ u - eye).abs().max() < tolerance and (v @ v.mT - eye).abs().max() < tolerance
        assert (s[:true_rank] - values[:true_rank].to(dtype)).abs().max() < tolerance * 10 if true_rank else True
        assert (s[true_rank:] < tolerance).all()
        assert ((u * s) @ v - matrix.to(dtype)).abs().max() < tolerance * 10


def test_equal_singular_values():
    for driver in ("full", "gram", "randomized"):
        u, s, v = truncated_svd(torch.eye(40, dtype=torch.float64), 5, driver=driver)
        torch.testing.assert_close(s, torch.ones(5, dtype=torch.float64))
        torch.testing.assert_close(u, v.mT, rtol=0, atol=1e-9)


def test_randomised_driver_improves_with_its_settings():
    """A slowly decaying spectrum, the realistic and hard case: more steps and columns, better block and more energy."""
    matrix = with_spectrum(torch.linspace(1, 0.2, 300), 400, 300).float()
    exact = torch.linalg.svd(matrix.double(), full_matrices=False)
    block = (exact.U[:, :16] * exact.S[:16]) @ exact.Vh[:16]
    errors, energies = [], []
    for niter, oversample in ((0, 0), (2, 8), (6, 32)):
        generator = torch.Generator().manual_seed(3)
        u, s, v = truncated_svd(matrix, 16, "randomized", niter, oversample, generator)
        assert ((u.mT @ u) - torch.eye(16)).abs().max() < 1e-5
        errors.append((torch.linalg.norm((u * s) @ v - block) / torch.linalg.norm(block)).item())
        energies.append((s.double().square().sum() / exact.S[:16].square().sum()).item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.02
    assert energies == sorted(energies) and 0.9999 < energies[-1] <= 1 + 1e-5


def test_randomised_driver_and_random_states():
    matrix = gaussian(80, 70)
    before = torch.random.get_rng_state()
    runs = [truncated_svd(matrix, 4, "randomized", 1, 2, torch.Generator().manual_seed(5)) for _ in range(2)]
    truncated_svd(matrix, 4, "gram")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    generator = torch.Generator().manual_seed(5)
    truncated_svd(matrix, 4, "full", generator=generator)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(5).get_state())


def test_auto_changes_driver_with_the_size(monkeypatch):
    used = []
    original = lowrank._gram
    monkeypatch.setattr(lowrank, "_gram", lambda *a: (used.append("gram"), original(*a))[1])
    monkeypatch.setattr(lowrank, "GRAM_FROM", 24)
    truncated_svd(gaussian(23, 60), 2)
    assert used == []
    truncated_svd(gaussian(60, 24), 2)
    assert set(used) == {"gram"}


def test_input_autograd_and_layout_are_left_alone():
    matrix = gaussian(12, 9).requires_grad_()
    copy = matrix.detach().clone()
    for driver in ("full", "gram", "randomized"):
        found = truncated_svd(matrix, 3, driver)
        assert torch.equal(matrix.detach(), copy) and not any(t.requires_grad for t in found)
        transposed = truncated_svd(matrix.mT, 3, driver, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(transposed[1], found[1], rtol=1e-6, atol=1e-8)
    with torch.autocast("cpu", torch.bfloat16):
        assert truncated_svd(matrix.detach().float(), 3, "gram")[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("matrix", "rank", "driver", "match"),
    [
        (torch.zeros(4, 3), 0, "full", "between 1 and 3.*got 0"),
        (torch.zeros(4, 3), 4, "full", "between 1 and 3.*got 4"),
        (torch.zeros(4, 3), 2, "exact", "auto, full, gram, randomized.*'exact'"),
        (torch.zeros(4), 1, "full", "two dimensions"),
        (torch.zeros(2, 4, 3), 1, "full", "two dimensions"),
        (torch.full((4, 3), float("nan")), 1, "gram", "NaN or infinite"),
        (torch.tensor([[float("inf"), 0.0]]), 1, "full", "NaN or infinite"),
    ],
)
def test_bad_input(matrix, rank, driver, match):
    with pytest.raises(ValueError, match=match):
        truncated_svd(matrix, rank, driver=driver)


# ---------------------------------------------------------------- signs
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_fix_signs(batch):
    u, vh = gaussian(*batch, 7, 4), gaussian(*batch, 4, 5, seed=1)
    found_u, found_v = fix_signs(u, vh)
    torch.testing.assert_close(found_u @ found_v, u @ vh)
    assert (found_u.gather(-2, found_u.abs().argmax(-2, keepdim=True)) > 0).all()
    signs = torch.sign(gaussian(*batch, 1, 4, seed=2))
    again = fix_signs(u * signs, vh * signs.mT)
    assert torch.equal(again[0], found_u) and torch.equal(again[1], found_v)


# ---------------------------------------------------------------- products
@pytest.mark.parametrize(("m", "r", "n"), [(9, 4, 7), (4, 9, 7), (7, 9, 4), (3, 12, 5), (1, 1, 1)])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_product_svd(m, r, n, batch):
    b, a = gaussian(*batch, m, r), gaussian(*batch, r, n, seed=1)
    exact = torch.linalg.svd(b @ a, full_matrices=False)
    for rank in {1, min(m, r, n)}:
        u, s, v = truncated_product_svd(b, a, rank)
        assert u.shape == (*batch, m, rank) and v.shape == (*batch, rank, n)
        torch.testing.assert_close(s, exact.S[..., :rank], rtol=1e-10, atol=1e-10)
        block = (exact.U[..., :rank] * exact.S[..., None, :rank]) @ exact.Vh[..., :rank, :]
        torch.testing.assert_close((u * s[..., None, :]) @ v, block, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            u.mT @ u, torch.eye(rank, dtype=u.dtype).expand(*batch, rank, rank), rtol=0, atol=1e-10
        )
        assert (u.gather(-2, u.abs().argmax(-2, keepdim=True)) > 0).all()


def test_product_svd_of_deficient_factors_and_half_precision():
    b = gaussian(8, 2) @ gaussian(2, 5, seed=1)
    a = gaussian(5, 6, seed=2)
    u, s, v = truncated_product_svd(b, a, 4)
    assert (s[2:] < 1e-12).all()
    torch.testing.assert_close((u * s) @ v, b @ a, rtol=1e-9, atol=1e-10)
    half = truncated_product_svd(b.bfloat16(), a.bfloat16(), 2)
    assert all(t.dtype == torch.float32 for t in half)
    torch.testing.assert_close(
        half[1].double(), torch.linalg.svdvals(b.bfloat16().double() @ a.bfloat16().double())[:2], rtol=1e-4, atol=0
    )
    for rank in (0, 6):
        with pytest.raises(ValueError, match=f"between 1 and 5, got {rank}"):
            truncated_product_svd(b, a, rank)


# ---------------------------------------------------------------- angles
def test_angles_of_known_planes():
    eye = torch.eye(4, dtype=torch.float64)
    turned = torch.stack(
        [eye[0] * torch.tensor(0.3).double().cos() + eye[2] * torch.tensor(0.3).double().sin(), eye[1]], 1
    )
    torch.testing.assert_close(
        subspace_angles(eye[:, :2], turned), torch.tensor([0.3, 0.0], dtype=torch.float64), rtol=1e-7, atol=1e-12
    )
    torch.testing.assert_close(
        subspace_angles(eye[:, :2], eye[:, 2:]), torch.full((2,), torch.pi / 2, dtype=torch.float64)
    )


@pytest.mark.parametrize("size", [1e-10, 1e-7, 1e-4, 0.5, 1.2, torch.pi / 2 - 1e-6])
def test_small_and_large_angles_keep_their_digits(size):
    x = torch.eye(5, 1, dtype=torch.float64)
    y = torch.zeros(5, 1, dtype=torch.float64)
    y[0], y[3] = torch.tensor(size).double().cos(), torch.tensor(size).double().sin()
    assert subspace_angles(x, y).item() == pytest.approx(torch.tensor(size).double().item(), rel=1e-6)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_angles_do_not_depend_on_the_basis(batch):
    x, y = (torch.linalg.qr(gaussian(*batch, 9, 4, seed=seed)).Q for seed in (0, 1))
    expected = torch.linalg.svdvals(x.mT @ y).clamp(max=1).acos().flip(-1)
    found = subspace_angles(x, y)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    assert (found.diff(dim=-1) <= 1e-12).all()
    turn = torch.linalg.qr(gaussian(4, 4, seed=3)).Q
    torch.testing.assert_close(subspace_angles(x @ turn, y), found, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(subspace_angles(y, x), found, rtol=1e-7, atol=1e-9)
    assert subspace_angles(x, x).max() < 1e-12
    assert subspace_angles(x.bfloat16(), y.bfloat16()).dtype == torch.float32
