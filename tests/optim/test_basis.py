# SPDX-License-Identifier: Apache-2.0
"""Every way of applying a basis gives the product with its matrix, on blocks of any size and order."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.linalg import top_columns
from eigenhub.optim import blocks, fourier_basis
from eigenhub.optim.bases import get_basis
from eigenhub.optim.basis import BASES, IdentityBasis, basis_matrix
from eigenhub.optim.fourier_basis import FourierBasis
from eigenhub.optim.projection import choose_and_project, expand_run, project_run


CPU = torch.device("cpu")
TRANSFORMS = ["auto", "fft", "matmul"]


@pytest.fixture(params=[True, False], ids=["blocks", "one call"])
def blockwise(request, monkeypatch):
    """Both ways of walking through the rows, with blocks of a few rows."""
    monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 5000)
    monkeypatch.setattr(fourier_basis, "CPU_MATMUL_COLUMNS", 4)
    get_basis.cache_clear()
    yield request.param
    get_basis.cache_clear()


def make(kind, n, transform, blockwise, dtype=torch.float64):
    basis = get_basis(kind, n, dtype, CPU, transform)
    basis.blockwise = blockwise
    return basis


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("n", [1, 7, 64])
def test_the_matrices_are_orthogonal_and_the_same_every_time(kind, n):
    b = basis_matrix(kind, n, torch.float64)
    assert (b.mT @ b - torch.eye(n, dtype=b.dtype)).abs().max() < 1e-12
    assert b.equal(basis_matrix(kind, n, torch.float64))


def test_an_unknown_basis_is_refused():
    with pytest.raises(ValueError, match="`basis` must be one of dct2, dct3, random, identity, got 'haar'"):
        basis_matrix("haar", 8, torch.float32)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("n", [1, 7, 64, 65])
def test_analysis_and_synthesis_are_products(kind, n, transform, blockwise):
    basis = make(kind, n, transform, blockwise)
    b = basis_matrix(kind, n, torch.float64)
    blocks = [torch.randn(23, n, dtype=torch.float64), torch.randn(n, 40, dtype=torch.float64).mT, torch.randn(0, n)]
    dense = torch.cat([block.double() for block in blocks]) @ b
    everything = torch.arange(n).unsqueeze(0)
    spectrum = basis.analyse(blocks)
    assert_close(basis.take(spectrum.unsqueeze(0), everything)[0], dense, atol=1e-12, rtol=0)

    again, scores = basis.analyse_and_score(blocks, 1)
    assert again.equal(spectrum)
    expected = torch.stack([part.abs().sum(0) for part in dense.split([23, 40, 0])])
    assert_close(scores, expected, atol=1e-10, rtol=0)

    for rank in {1, min(3, n), n}:
        indices = torch.stack([torch.randperm(n)[:rank].sort().values for _ in range(2)])
        coefficients = torch.randn(2, 30, rank, dtype=torch.float64)
        rows = torch.stack([c @ b[:, i].mT for c, i in zip(coefficients, indices, strict=True)])
        assert_close(basis.synthesise(coefficients, indices), rows, atol=1e-12, rtol=0)
        matrices = [torch.randn(6, n, dtype=torch.float64) for _ in range(2)]
        projected = torch.stack([m @ b[:, i] for m, i in zip(matrices, indices, strict=True)])
        assert_close(basis.project(matrices, indices), projected, atol=1e-12, rtol=0)
        assert basis.synthesise(coefficients[:, :0], indices).shape == (2, 0, n)


def test_the_fft_stores_nothing_and_products_are_made_when_needed():
    get_basis.cache_clear()
    basis = get_basis("dct2", 96, torch.float32, CPU, "fft")
    assert isinstance(basis, FourierBasis)
    basis.synthesise(torch.randn(1, 4, 2), torch.tensor([[0, 5]]))
    assert basis.nbytes == 0
    mixed = get_basis("dct2", 96, torch.float32, CPU, "auto")
    mixed.synthesise(torch.randn(1, 4, 2), torch.tensor([[0, 5]]))
    assert mixed.nbytes == 4 * 96 * 96
    assert isinstance(get_basis("identity", 96, torch.float32, CPU), IdentityBasis)
    assert get_basis("dct2", 96, torch.float32, CPU, "fft") is basis


@pytest.mark.parametrize("budget", [1, 3000, 10**9])
@pytest.mark.parametrize("kind", ["dct2", "random"])
def test_a_budget_does_not_change_the_projection(kind, budget):
    basis = get_basis(kind, 65, torch.float64, CPU, "fft")
    run = [torch.randn(40, 65, dtype=torch.float64) for _ in range(2)]
    seen = []

    def settle(scores):
        seen.append(scores)
        return top_columns(scores, 9)

    indices, (inside,) = choose_and_project(basis, [run], 2, settle, budget)
    dense = torch.stack(run) @ basis_matrix(kind, 65, torch.float64)
    assert len(seen) == 1
    assert_close(seen[0], dense.square().sum(1))
    expected = dense.gather(-1, indices.unsqueeze(1).expand(2, 40, 9))
    assert_close(inside, expected)
    assert_close(project_run(basis, run, indices, budget), expected)
    pieces = list(expand_run(basis, inside, indices, budget))
    assert [p.start for p, _ in pieces] == sorted({p.start for p, _ in pieces})
    rows = torch.cat([rows for _, rows in pieces], dim=1)
    assert_close(rows, basis.synthesise(inside, indices))
    if budget == 1:
        assert len(pieces) == 40


def test_matrices_of_equal_width_share_one_transform(monkeypatch):
    basis = get_basis("dct2", 65, torch.float64, CPU, "fft")
    calls = []
    whole = FourierBasis.analyse_and_score
    monkeypatch.setattr(
        FourierBasis,
        "analyse_and_score",
        lambda self, blocks, norm: calls.append(len(blocks)) or whole(self, blocks, norm),
    )
    runs = [[torch.randn(4, 65)] * 3, [torch.randn(9, 65)] * 2]
    indices, inside = choose_and_project(basis, runs, 1, lambda s: top_columns(s, 5), 10**9)
    assert calls == [5]
    assert indices.shape == (5, 5) and [tuple(i.shape) for i in inside] == [(3, 4, 5), (2, 9, 5)]
