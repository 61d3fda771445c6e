# SPDX-License-Identifier: Apache-2.0
"""What is special about Trion: what stays in the momentum, the polar factor of the update, its scales."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eigenhub.linalg import dct_matrix
from eigenhub.optim import Trion
from eigenhub.optim.trion_step import shape_scale
from tests.common.optimizer_tester import give_gradients, make_parameters, run_steps


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (9, 9)])
@pytest.mark.parametrize("transform", ["fft", "matmul"])
@pytest.mark.parametrize("basis", ["dct2", "dct3"])
def test_what_is_not_chosen_stays_undiminished(shape, transform, basis):
    (parameter,) = make_parameters([shape])
    optimizer = Trion([parameter], lr=0.1, weight_decay=0.0, rank=3, momentum=0.9, transform=transform, basis=basis)
    for step in range(4):
        before = optimizer.state[parameter]["momentum_buffer"].clone() if step else torch.zeros(shape)
        weights = parameter.detach().clone()
        give_gradients([parameter], step)
        optimizer.step()
        state = optimizer.state[parameter]
        flip = shape[0] < shape[1]
        total = before + parameter.grad
        total, momentum = (total.mT, state["momentum_buffer"].mT) if flip else (total, state["momentum_buffer"])
        b = dct_matrix(total.shape[1], torch.float32)
        vectors = (b if basis == "dct2" else b.mT)[state["indices"]]
        kept = total @ vectors.mT @ vectors
        assert_close(momentum, 0.9 * kept + (total - kept), atol=1e-5, rtol=0)

        update = (weights - parameter.detach()) / (0.1 * max(1, shape[0] / shape[1]) ** 0.5)
        values = torch.linalg.svdvals(update)
        assert ((values[:3] > 0.65) & (values[:3] < 1.25)).all() and values[3:].max() < 1e-4
        rows = update.mT if flip else update
        assert_close(rows @ vectors.mT @ vectors, rows, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("scale", "tall", "wide"),
    [("spectral", 2.0, 1.0), ("none", 1.0, 1.0), ("dion", 2.0, 0.5), ("match_rms_adamw", 0.8, 0.8)],
)
def test_the_scales(scale, tall, wide):
    assert shape_scale(scale, 16, 4) == pytest.approx(tall)
    assert shape_scale(scale, 4, 16) == pytest.approx(wide)
    with pytest.raises(ValueError, match="`scale` must be one of spectral, none, match_rms_adamw, dion"):
        shape_scale("other", 1, 1)


def test_the_size_of_an_update_carries_over_between_ranks():
    sizes = {}
    for corrected in (True, False):
        for rank in (4, 16):
            (parameter,) = make_parameters([(64, 64)])
            before = parameter.detach().clone()
            optimizer = Trion([parameter], lr=1.0, weight_decay=0.0, rank=rank, rank_rms_correction=corrected)
            run_steps(optimizer, [parameter], range(1))
            sizes[corrected, rank] = float((parameter.detach() - before).square().mean().sqrt())
    assert sizes[False, 16] / sizes[False, 4] == pytest.approx(2, rel=0.15)
    assert sizes[True, 16] / sizes[True, 4] == pytest.approx(1, rel=0.15)


def test_a_matrix_has_no_more_rank_than_its_shorter_side():
    """Projected from the right, a wide matrix of 8 rows has 16 slots, and its update the size of one with 8."""
    sizes = {}
    for rank in (8, 16):
        (parameter,) = make_parameters([(8, 32)])
        before = parameter.detach().clone()
        options = {"weight_decay": 0.0, "rank": rank, "rank_rms_correction": True, "project": "right"}
        run_steps(Trion([parameter], lr=1.0, **options), [parameter], range(1))
        sizes[rank] = float((parameter.detach() - before).square().mean().sqrt())
    assert sizes[16] / sizes[8] == pytest.approx(1, rel=0.15)


def test_the_subspace_is_chosen_in_every_step_and_nothing_is_lost():
    """A part of the gradient that is never chosen at first grows in the momentum until it is."""
    parameter = nn.Parameter(torch.zeros(8, 8))
    optimizer = Trion([parameter], rank=1, basis="identity", momentum=0.5)
    chosen = []
    for _ in range(12):
        parameter.grad = torch.zeros(8, 8)
        parameter.grad[:, 3] = 1.0
        parameter.grad[:, 6] = 0.4
        optimizer.step()
        chosen.append(optimizer.state[parameter]["indices"].item())
    assert chosen[0] == 3 and set(chosen) == {3, 6}


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_iteration_may_have_a_dtype_of_its_own(dtype):
    usual, other = make_parameters([(20, 8)]), make_parameters([(20, 8)])
    run_steps(Trion(usual, rank=3), usual, range(2))
    run_steps(Trion(other, rank=3, ns_dtype=dtype), other, range(2))
    assert not other[0].equal(usual[0])
    assert_close(other[0], usual[0], atol=1e-3, rtol=0)


def test_a_half_precision_momentum_keeps_small_gradients_of_one_step():
    """The sum of momentum and gradient is projected in float32, before it is rounded into the buffer."""
    (parameter,) = make_parameters([(8, 8)], torch.bfloat16)
    optimizer = Trion([parameter], rank=8)
    run_steps(optimizer, [parameter], range(2))
    assert optimizer.state[parameter]["momentum_buffer"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [({"momentum": 1.0}, r"`momentum` must lie in \[0.0, 1.0\)"), ({"scale": "muon"}, "`scale` must"),
     ({"ns_steps": 0}, "`ns_steps` must"), ({"ns_coefficients": "best"}, "`ns_coefficients` must"),
     ({"ns_dtype": "int8"}, "`ns_dtype` must"), ({"rank": -1}, "`rank` must"),
     ({"rank_rms_correction": "yes"}, "`rank_rms_correction` must be True or False"),
     ({"transposed": 1}, "`transposed` must be True or False")],
)  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Trion(make_parameters([(2, 2)]), **options)
