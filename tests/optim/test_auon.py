# SPDX-License-Identifier: Apache-2.0
"""The size of AuON's brake, and what AuON is and is not: momentum SGD, normalised or not."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eigenhub.linalg import newton_schulz
from eigenhub.optim import AuON, HybridAuON, brake, brake_bounds
from eigenhub.optim.brake import SERIES, SERIES_ERROR, log_rms_cosh, series_terms
from tests.common.optimizer_tester import give_gradients, make_parameters, run_steps


SHAPES = [(1, 1), (2, 3), (8, 8), (1, 64), (64, 64), (512, 512)]


def unit_matrices(rows, columns):
    """Random, of rank one, a spike, constant."""
    spike = torch.zeros(rows, columns, dtype=torch.float64)
    spike[0, 0] = 1
    random = torch.randn(rows, columns, dtype=torch.float64)
    flat = torch.ones(rows, columns, dtype=torch.float64)
    return [m / m.norm() for m in (random, random[:, :1] @ random[:1], spike, flat)]


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 8.0, 40.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_brake_lies_between_its_bounds_and_both_forms_agree(shape, gamma):
    low, high = brake_bounds(shape[0] * shape[1], gamma)
    *_, spike, flat = unit_matrices(*shape)
    for x in unit_matrices(*shape):
        rho = brake(x, gamma).item()
        assert low * (1 - 1e-12) <= rho <= high * (1 + 1e-12)
        assert rho == pytest.approx((gamma * x).cosh().square().mean().sqrt().item(), rel=1e-12)
    assert brake(spike, gamma).item() == pytest.approx(high, rel=1e-12)
    assert brake(flat, gamma).item() == pytest.approx(low, rel=1e-12)
    if gamma == 0:
        assert low == high == 1.0


def test_the_documented_size_of_the_brake_is_true():
    """The table in the docstring of `AuON` and the head of `brake.py`."""
    assert "0.06 %" in AuON.__doc__
    assert all(brake_bounds(n * n)[1] - 1 < 6e-4 for n in (64, 256, 4096))
    assert brake_bounds(63 * 63)[1] - 1 > 5e-4  # not much to spare


def test_the_part_above_one_is_there_at_any_size():
    """In float32 the brake of a million entries, and of any larger matrix, would be 1 or one of a few numbers above it."""
    x = torch.full((4000, 4000), 1 / 4000)
    excess = brake(x, 1.5).item() - 1
    assert excess == pytest.approx(1.5**2 / (2 * 4000**2), rel=1e-5) and excess < torch.finfo(torch.float32).eps / 1.5


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 1.5, 8.0, 40.0])
def test_as_few_terms_as_the_worst_matrix_allows(gamma):
    counts = [series_terms(2**k, gamma) for k in range(150)]
    order = [count or len(SERIES) + 1 for count in counts]
    assert order == sorted(order, reverse=True) and order[-1] == 1  # larger matrices never need more
    for k, count in enumerate(counts):
        known = sum(factor * gamma ** (2 * i) for i, factor in enumerate(SERIES[:count], start=1))
        assert count == 0 or (math.sinh(gamma) ** 2 - known) / 2**k <= SERIES_ERROR


def test_the_series_is_that_of_the_squared_sinh():
    for y in (0.01, 0.1, 0.3):
        known = sum(factor * y ** (2 * i) for i, factor in enumerate(SERIES, start=1))
        assert abs(known - math.sinh(y) ** 2) < 1.2 * y**8 / 315


def test_entries_of_any_size_do_not_overflow():
    z = torch.tensor([0.0, 1.0, 500.0])
    assert log_rms_cosh(z, 2.0).item() == pytest.approx(1000 - math.log(2) - 0.5 * math.log(3), rel=1e-6)
    small = torch.randn(100, dtype=torch.float64)
    assert log_rms_cosh(small, 0.7).exp().item() == pytest.approx((0.7 * small).cosh().square().mean().sqrt().item())


def one_step(gradient, shape=(64, 64), **options):
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = gradient
    AuON([parameter], lr=1.0, **options).step()
    return -parameter.detach()


def test_the_package_is_momentum_sgd_within_the_bound():
    ours, plain = make_parameters([(64, 64)]), make_parameters([(64, 64)])
    buffer = torch.zeros(64, 64)
    optimizer = AuON(ours, lr=0.1, variant="package")
    for step in range(20):
        before, reference = ours[0].detach().clone(), plain[0].detach().clone()
        give_gradients(ours, step)
        optimizer.step()
        gradient = ours[0].grad
        buffer = 0.95 * buffer + 0.05 * gradient
        plain[0].data -= 0.1 * (0.05 * gradient + 0.95 * buffer)
        moved, expected = ours[0].detach() - before, plain[0].detach() - reference
        # float32 steps of weights of size one carry 1e-7 each
        assert (moved - expected).norm() <= (math.sinh(1.5) ** 2 / (2 * 4096) + 1e-5) * expected.norm()


def test_the_normalised_form_ignores_the_scale_and_the_package_follows_it():
    gradient = torch.randn(64, 64)
    for scale in (1e-3, 10.0, 1e3):
        assert_close(one_step(scale * gradient), one_step(gradient), atol=1e-6, rtol=1e-3)
        package = one_step(gradient, variant="package")
        assert_close(one_step(scale * gradient, variant="package"), scale * package, atol=0, rtol=1e-5)


@pytest.mark.parametrize("variant", ["normalized", "package", "rms"])
def test_an_update_is_a_multiple_of_the_momentum(variant):
    gradient = torch.randn(40, 40) @ torch.diag(torch.logspace(0, -2, 40))
    update = one_step(gradient, (40, 40), variant=variant)
    assert torch.cosine_similarity(update.flatten(), gradient.flatten(), dim=0) > 1 - 1e-6
    assert_close(torch.linalg.cond(update), torch.linalg.cond(gradient), rtol=1e-3, atol=0)
    if variant == "normalized":
        assert update.norm() <= 1


def test_gaussian_updates_pass_the_experimental_brake_and_heavy_tails_do_not():
    gaussian = torch.randn(256, 256)
    heavy = gaussian * torch.randn(256, 256).pow(2)
    assert one_step(gaussian, (256, 256), variant="rms").norm().item() == pytest.approx(1, abs=0.02)
    assert one_step(heavy, (256, 256), variant="rms").norm().item() < 0.6


@pytest.mark.parametrize("shape", [(32, 32), (48, 16)])
def test_the_hybrid_is_newton_schulz_over_the_brake(shape):
    gradient = torch.randn(shape) @ torch.diag(torch.logspace(0, -2, shape[1]))
    spreads = []
    for steps in (1, 3, 5):
        update = one_step(gradient, shape, variant="package", ns_steps=steps)
        polar = newton_schulz(gradient, steps)
        assert_close(update, polar / (brake(polar / polar.norm()) + 1e-8), atol=1e-6, rtol=1e-5)
        values = torch.linalg.svdvals(update)
        spreads.append(float(values[0] / values[-1]))
    assert spreads[0] > spreads[1] > spreads[2]
    wide = one_step(gradient.mT.contiguous(), shape[::-1], variant="package", ns_steps=5)
    assert_close(wide.mT, one_step(gradient, shape, variant="package", ns_steps=5), atol=1e-5, rtol=0)


def test_five_iterations_are_the_polar_factor_of_muon():
    parameter, other = nn.Parameter(torch.zeros(32, 32)), nn.Parameter(torch.zeros(32, 32))
    gradient = torch.randn(32, 32)
    parameter.grad, other.grad = gradient.clone(), gradient.clone()
    HybridAuON([parameter], variant="package", lr=1.0).step()
    muon = torch.optim.Muon([other], lr=1.0, weight_decay=0.0, momentum=0.95)
    muon.step()
    a, b = parameter.detach(), other.detach()
    assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.99  # Muon iterates in bfloat16
    assert a.norm() / b.norm() == pytest.approx(1, abs=0.03)


def test_the_hybrid_knows_the_iterations_of_paper_and_package():
    parameters = make_parameters([(4, 4)])
    assert HybridAuON(parameters).defaults["ns_steps"] == 1
    assert HybridAuON(parameters, variant="package").defaults["ns_steps"] == 5
    assert AuON(parameters).defaults["lr"] == 0.02 and AuON(parameters, variant="package").defaults["lr"] == 0.1
    plain, none = make_parameters([(6, 4)]), make_parameters([(6, 4)])
    run_steps(AuON(plain), plain, range(3))
    run_steps(HybridAuON(none, ns_steps=0), none, range(3))
    assert plain[0].equal(none[0])


@pytest.mark.parametrize("variant", ["normalized", "package", "rms"])
def test_zero_and_bad_gradients(variant):
    parameter = nn.Parameter(torch.ones(4, 4))
    optimizer = AuON([parameter], lr=0.1, variant=variant, weight_decay=0.5)
    parameter.grad = torch.zeros(4, 4)
    optimizer.step()
    assert_close(parameter.detach(), torch.full((4, 4), 0.95))
    parameter.grad = torch.full((4, 4), 1e-30)
    optimizer.step()
    assert parameter.isfinite().all()
    for bad in (torch.nan, torch.inf):
        spoiled = nn.Parameter(torch.ones(4, 4))
        spoiled.grad = torch.ones(4, 4)
        spoiled.grad[0, 0] = bad
        AuON([spoiled], variant=variant).step()
        if variant == "package":
            assert not spoiled[0, 0].isfinite()
        else:
            assert not spoiled.isfinite().any()  # not a silent zero step of the finite entries


def test_a_norm_beyond_single_precision_is_no_silent_zero_step():
    assert one_step(1e25 * torch.randn(8, 8), (8, 8)).isnan().all()


@pytest.mark.parametrize(("side", "terms"), [(200, 0), (500, 3), (1000, 2), (1600, 1)])
def test_the_series_is_as_good_as_the_brake(side, terms):
    """A spike is the worst case: what the terms leave out would have changed 5e-7."""
    gradient = torch.zeros(side, side)
    gradient[0, 0] = 1.0
    assert series_terms(side**2, 1.5) == terms
    update = one_step(gradient, (side, side), variant="package", momentum=0.0)
    exact = 1 / brake(gradient.double()).item()
    assert abs(update[0, 0].item() / exact - 1) < SERIES_ERROR / 2 + 2e-7


def test_stacks_are_normalised_as_a_whole_or_one_by_one():
    stack = torch.randn(3, 6, 4)
    whole = one_step(stack.clone(), (3, 6, 4))
    each = one_step(stack.clone(), (3, 6, 4), per_matrix=True)
    assert whole.norm().item() == pytest.approx(1.5**0.5, rel=0.05)
    for i in range(3):
        assert_close(each[i], one_step(stack[i].clone(), (6, 4)))


@pytest.mark.parametrize(
    ("options", "rms"),
    [({"adjust_lr": "match_rms_adamw"}, 0.2), ({"adjust_lr": "match_rms_adamw", "ns_steps": 8}, 0.2),
     ({"adjust_lr": "none"}, 1 / (64 * 16) ** 0.5), ({"adjust_lr": "original"}, 2 / (64 * 16) ** 0.5),
     ({"adjust_lr": None, "transposed": True}, 1 / (64 * 16) ** 0.5)],
)  # fmt: skip
def test_shape_factors(options, rms):
    update = one_step(torch.randn(64, 16), (64, 16), **options)
    assert update.square().mean().sqrt().item() == pytest.approx(rms, rel=0.2 if options.get("ns_steps") else 0.01)


def test_flattened_weights_are_taken_on_request_only():
    flat = nn.Parameter(torch.zeros(32))
    flat._fsdp_flattened = True
    flat.grad = torch.randn(32)
    with pytest.raises(RuntimeError, match="flattened"):
        AuON([flat]).step()
    optimizer = AuON([flat], allow_flat=True)
    optimizer.step()
    assert optimizer.state[flat].keys() == {"momentum_buffer"}
    with pytest.raises(RuntimeError, match="`allow_flat` works with `ns_steps=0` only"):
        HybridAuON([flat], allow_flat=True).step()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"momentum": 1.0}, "`momentum` must"), ({"momentum": -0.1}, "`momentum` must"), ({"gamma": 41.0}, "`gamma` must"),
     ({"gamma": -1.0}, "`gamma` must"), ({"variant": "v4"}, "`variant` must"), ({"ns_steps": -1}, "`ns_steps` must"),
     ({"adjust_lr": "auto"}, "`adjust_lr` must"), ({"min_ndim": -1}, "`min_ndim` must"), ({"ns_dtype": "x"}, "`ns_dtype`"),
     ({"adjust_lr": "match_rms_adamw", "variant": "package"}, "not the plain package variant"),
     ({"variant": "rms", "ns_steps": 2}, "set `ns_steps=0`"), ({"nesterov": "no"}, "`nesterov` must be True or False"),
     ({"per_matrix": 1}, "`per_matrix` must be True or False"), ({"norm_eps": "small"}, "`norm_eps` must lie")],
)  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        AuON(make_parameters([(2, 2)]), **options)
    with pytest.raises(ValueError, match="`variant` must be one of normalized, package, got 'rms'"):
        HybridAuON(make_parameters([(2, 2)]), variant="rms")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["normalized", "package"])
def test_a_compiled_step_is_the_same_step(variant):
    plain, fast = make_parameters([(6, 4), (3, 5)], torch.float64), make_parameters([(6, 4), (3, 5)], torch.float64)
    run_steps(AuON(plain, variant=variant), plain, range(3))
    optimizer = AuON(fast, variant=variant)
    step = torch.compile(optimizer.step)
    for i in range(3):
        give_gradients(fast, i)
        step()
    for a, b in zip(fast, plain, strict=True):
        assert_close(a, b, atol=1e-9, rtol=0)
