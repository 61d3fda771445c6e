# SPDX-License-Identifier: Apache-2.0
"""The cosine transforms against the matrix, SciPy and each other, and the choice of columns."""

import importlib
import itertools

import pytest
import scipy.fft
import torch
from torch.testing import assert_close

from eigenhub.linalg import column_scores, dct, dct_matrix, idct, select_basis, top_columns
from eigenhub.linalg.dct import use_fft
from eigenhub.linalg.dct_plan import dct_plan


# The package offers a function of the same name.
dct_module = importlib.import_module("eigenhub.linalg.dct")
SIZES = [1, 2, 3, 7, 8, 63, 64, 101, 1000, 1024]
CPU = torch.device("cpu")


@pytest.mark.parametrize("n", SIZES)
def test_the_matrix_is_orthogonal(n):
    c = dct_matrix(n)
    assert (c @ c.mT - torch.eye(n, dtype=c.dtype)).abs().max() < 1e-12
    single = dct_matrix(n, torch.float32).double()  # so that the product adds no rounding of its own
    assert (single @ single.mT - torch.eye(n)).abs().max() < 1e-6
    assert_close(single, c, atol=1e-7, rtol=0)


def test_the_angles_are_reduced_before_rounding():
    """Entry (n-1, n-1) at 4096 has an angle of 6400 turns, where float32 angles are off by 1e-3."""
    n = 4096
    row = dct_matrix(n, torch.float32)[n - 1].double()
    unit = torch.zeros(n, dtype=torch.float64)
    unit[n - 1] = 1
    assert_close(row, torch.from_numpy(scipy.fft.idct(unit.numpy(), type=2, norm="ortho")), atol=1e-8, rtol=0)


@pytest.mark.parametrize("transform", ["fft", "matmul"])
@pytest.mark.parametrize("n", SIZES)
def test_transforms_equal_scipy_and_invert(n, transform):
    x = torch.randn(2, 3, n, dtype=torch.float64)
    y = dct(x, transform)
    assert_close(y, torch.from_numpy(scipy.fft.dct(x.numpy(), type=2, norm="ortho")), atol=1e-12, rtol=0)
    assert_close(idct(x, transform), torch.from_numpy(scipy.fft.idct(x.numpy(), norm="ortho")), atol=1e-12, rtol=0)
    assert_close(idct(y, transform), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [63, 64, 1000])
@pytest.mark.parametrize("transpose", [False, True])
def test_fft_equals_matmul_in_single_and_half_precision(n, transpose):
    x = torch.randn(n, 17).mT if transpose else torch.randn(17, n)
    exact = dct(x.double(), "matmul")
    assert_close(dct(x, "fft").double(), exact, atol=2e-6, rtol=0)
    assert_close(dct(x, "matmul").double(), exact, atol=5e-6, rtol=0)
    half = x.bfloat16()
    assert dct(half, "fft").dtype == torch.bfloat16
    assert_close(dct(half, "fft").float(), dct(half.float(), "matmul"), atol=2e-2, rtol=0)


@pytest.mark.parametrize("shape", [(0, 100), (5, 0, 100), (3, 40, 100), (100,)])
def test_rows_are_transformed_in_blocks(shape, monkeypatch):
    x = torch.randn(*shape, dtype=torch.float64)
    whole = [dct(x, "fft"), idct(x, "fft")]
    monkeypatch.setattr(dct_module, "CPU_BLOCK_ENTRIES", 700)
    assert [y.shape for y in whole] == [x.shape] * 2
    assert all(a.equal(b) for a, b in zip([dct(x, "fft"), idct(x, "fft")], whole, strict=True))
    x.requires_grad_(True)
    dct(x, "fft").square().sum().backward()
    assert_close(x.grad, 2 * x.detach(), atol=1e-12, rtol=0)


def test_transforms_are_differentiable():
    x = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    for function, transform in itertools.product((dct, idct), ("fft", "matmul")):
        assert torch.autograd.gradcheck(lambda v, f=function, t=transform: f(v, t), x)


def test_a_plan_from_inference_mode_serves_training():
    dct_plan.cache_clear()
    with torch.inference_mode():
        dct(torch.randn(2, 65), "fft")
    x = torch.randn(2, 65, requires_grad=True)
    dct(x, "fft").square().sum().backward()
    assert_close(x.grad, 2 * x.detach(), atol=1e-5, rtol=0)


def test_the_packed_row_holds_every_coefficient():
    for n in (1, 6, 7):
        plan = dct_plan(n, torch.float64, CPU)
        assert len(set(plan.position.tolist())) == n and plan.position.max() < plan.width


def test_auto_is_a_rule_not_a_measurement():
    assert not use_fft(63, CPU) and use_fft(64, CPU)
    assert not use_fft(2048, torch.device("cuda")) and use_fft(4096, torch.device("cuda"))
    with pytest.raises(ValueError, match="`transform` must be one of auto, matmul, fft, got 'dst'"):
        use_fft(8, CPU, "dst")


@pytest.mark.parametrize("bad", [torch.ones(2, 3, dtype=torch.int64), torch.tensor(1.0), torch.ones(2, 0)])
def test_what_is_no_row_of_reals_is_refused(bad):
    with pytest.raises(ValueError, match="real rows"):
        dct(bad)
    with pytest.raises(ValueError, match="`n` must be at least 1"):
        dct_matrix(0)


@pytest.mark.parametrize("norm", [1, 2])
def test_scores_of_long_and_short_matrices(norm):
    x = torch.randn(2, 700, 1024)  # several blocks of rows
    assert_close(column_scores(x, norm), x.abs().pow(norm).sum(-2))
    assert column_scores(x[:, :0], norm).tolist() == [[0.0] * 1024] * 2
    with pytest.raises(ValueError, match="`norm` must be 1 or 2"):
        column_scores(x, 3)


def test_ties_go_to_the_lowest_indices_in_ascending_order():
    assert top_columns(torch.zeros(10), 3).tolist() == [0, 1, 2]
    assert top_columns(torch.tensor([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 5.0, 0.0]]), 2).tolist() == [[1, 3], [0, 2]]
    scores = torch.rand(4, 50)
    chosen = top_columns(scores, 20)
    assert (chosen.diff(dim=-1) > 0).all()
    assert scores.gather(1, chosen).sort().values.equal(scores.topk(20).values.sort().values)
    with pytest.raises(ValueError, match="`rank` must be between 1 and 50"):
        top_columns(scores, 51)


@pytest.mark.parametrize("shape", [(40, 16), (16, 16), (5, 16)])
def test_the_squared_norm_keeps_its_promise(shape):
    x = torch.randn(*shape, dtype=torch.float64)
    x[:, 3] *= 30  # a spike
    for rank in (1, 4, 15):
        _, kept = select_basis(x, rank, norm=2)
        assert x.square().sum() - kept.square().sum() <= (1 - rank / 16) * x.square().sum()


def test_the_squared_norm_chooses_the_best_subset():
    x = torch.randn(5, 7, dtype=torch.float64)
    energies = dct(x, "matmul").square().sum(0)
    for rank in range(1, 8):
        best = max(energies[list(subset)].sum() for subset in itertools.combinations(range(7), rank))
        _, kept = select_basis(x, rank, norm=2)
        assert_close(kept.square().sum(), best)


@pytest.mark.parametrize("transform", ["fft", "matmul"])
def test_the_rest_is_orthogonal_to_what_is_kept(transform):
    x = torch.randn(3, 20, 12, dtype=torch.float64)
    indices, kept = select_basis(x, 5, transform=transform)
    vectors = dct_matrix(12)[indices]  # [3, 5, 12]
    rest = x - kept @ vectors
    assert (rest @ vectors.mT).abs().max() < 1e-12
