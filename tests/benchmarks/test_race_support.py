# SPDX-License-Identifier: Apache-2.0
"""The parts of the findings benchmark that its conclusions rest on: the search, the cache and the reference optimizers."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from eigenhub.optim import DCTAdamW
from tests.support.processes import ROOT


@pytest.fixture(autouse=True)
def benchmarks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def bowl(best_rate: float, best_aux: float):
    """A loss with one minimum in the logarithms, and the pairs it was asked for."""
    asked: list[tuple[float, float]] = []

    def loss(rate: float, aux: float) -> float:
        asked.append((rate, aux))
        return math.log(rate / best_rate) ** 2 + math.log(aux / best_aux) ** 2

    return loss, asked


@pytest.mark.parametrize(("best_rate", "best_aux"), [(2.0, 3e-3), (8.0, 1e-3), (0.5, 1e-2), (1.0, 3e-3)])
def test_search_finds_a_minimum_inside_and_outside_of_the_grid(best_rate: float, best_aux: float) -> None:
    from support.search import tune

    loss, asked = bowl(best_rate, best_aux)
    assert tune(loss, (1.0, 2.0, 4.0)) == (best_rate, best_aux)
    assert len(set(asked)) <= 10, "the grid costs more than was planned for"


def test_search_of_a_contender_without_rate_and_of_a_diverging_one() -> None:
    from support.search import tune

    assert tune(lambda rate, aux: abs(aux - 1e-2), (0.0,)) == (0.0, 1e-2)
    assert tune(lambda rate, aux: math.nan if rate > 1 else rate, (1.0, 2.0, 4.0)) == (0.25, 1e-3)


def test_cache_computes_once_per_task(tmp_path: Path) -> None:
    from support.cached import cached

    def never() -> dict:
        raise AssertionError("computed again")

    assert cached(tmp_path, {"a": 1, "b": 2}, lambda: {"value": 3}) == {"value": 3}
    assert cached(tmp_path, {"b": 2, "a": 1}, never) == {"value": 3}
    assert cached(tmp_path, {"a": 2, "b": 2}, lambda: {"value": 4}) == {"value": 4}
    with pytest.raises(AssertionError):
        cached(tmp_path, {"a": 3}, never)
    assert len(list(tmp_path.iterdir())) == 2, "a failed task left something behind"


def gradients(shape: tuple[int, int], rank: int, steps: int) -> Iterator[torch.Tensor]:
    """Gradients in one subspace of coordinate axes, so that singular vectors and coordinates agree on it."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        gradient = torch.zeros(shape)
        # orthogonal columns of falling length: then the axes themselves are the singular vectors
        columns = torch.linalg.qr(torch.randn(shape[0], rank, generator=generator)).Q
        gradient[:, :rank] = columns * torch.arange(rank, 0, -1)
        yield gradient


@pytest.mark.parametrize("wide", [False, True])
def test_svd_control_is_dct_adamw_where_their_subspaces_agree(wide: bool) -> None:
    from support.controls import SvdAdamW

    first, second = (torch.nn.Parameter(torch.zeros(6, 12) if wide else torch.zeros(12, 6)) for _ in range(2))
    settings = {"lr": 0.1, "rank": 3, "update_proj_gap": 2}
    ours = DCTAdamW([first], basis="identity", betas=(0.9, 0.95), **settings)
    control = SvdAdamW([second], **settings)
    for gradient in gradients((12, 6), 3, 5):
        first.grad = second.grad = gradient.mT.clone() if wide else gradient
        ours.step()
        control.step()
    assert first.abs().max() > 0.1
    assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_svd_control_keeps_what_it_left_out() -> None:
    from support.controls import SvdAdamW

    parameter = torch.nn.Parameter(torch.zeros(8, 4))
    optimizer = SvdAdamW([parameter], lr=0.1, rank=1, update_proj_gap=1, error_feedback=True)
    parameter.grad = torch.randn(8, 4)
    optimizer.step()
    error = optimizer.state[parameter]["error"]
    squares = torch.linalg.svdvals(parameter.grad).square()
    assert_close(error.square().sum(), squares[1:].sum())


def test_dion_steps_along_the_leading_directions() -> None:
    from support.controls import Dion

    parameter = torch.nn.Parameter(torch.zeros(12, 6))
    optimizer = Dion([parameter], lr=1.0, rank=2, momentum=0.0)
    left, right = torch.linalg.qr(torch.randn(12, 2)).Q, torch.linalg.qr(torch.randn(6, 2)).Q
    for _ in range(20):
        parameter.grad = left @ torch.diag(torch.tensor([5.0, 4.0])) @ right.mT
        before = parameter.detach().clone()
        optimizer.step()
    # scale sqrt(12 / 6); with a rank-2 gradient the power iteration has it exactly
    assert_close(before - parameter.detach(), math.sqrt(2) * left @ right.mT, rtol=1e-3, atol=1e-4)


def test_energy_and_brake() -> None:
    from support.subspaces import brake_above_one, energy_by_basis

    spiky = torch.zeros(16, 8)
    spiky[:, 3] = 1.0
    found = energy_by_basis(spiky, 1 / 8)
    assert found["identity"] == pytest.approx(1.0)
    assert found["svd"] == pytest.approx(1.0)
    assert found["dct2"] < 0.5
    assert found == pytest.approx(energy_by_basis(spiky.mT, 1 / 8))
    even = torch.full((64, 64), 0.3)
    assert brake_above_one(even) == pytest.approx(math.cosh(1.5 / 64) - 1, rel=1e-6)
