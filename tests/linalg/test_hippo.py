# SPDX-License-Identifier: Apache-2.0
"""HiPPO-LegS, its normal part and the exact relations between their transfer functions."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.testing import assert_close

from eigenhub.linalg.hippo import (
    S4D_INITS,
    eigenvector_condition,
    gain_peaks,
    hippo_legs,
    legs_frequencies,
    legs_normal_diagonalize,
    legs_normal_part,
    legs_state_response,
    lowrank_gain,
    phi,
    s4d_init,
    transfer_function,
)


SIZES = [1, 2, 3, 8, 17, 64]
# order: largest frequency of the normal part, then (frequency, gain) of the highest peaks of S4D-LegS over HiPPO
GAINS = {
    8: (19.85741, [(19.87, 13.80), (5.37, 2.25)]),
    16: (80.96608, [(80.97, 52.71), (25.64, 6.59)]),
    32: (325.42632, [(325.43, 208.34), (107.09, 23.89), (62.62, 9.13)]),
    64: (1303.27384, [(1303.27, 830.86), (433.03, 93.1), (258.15, 34.0)]),
    128: (5214.66561, [(5214.67, 3320.93), (1736.83, 369.7), (1040.42, 133.6)]),
}


def random_points(count=20):
    return torch.complex(torch.rand(count).double() * 4, torch.randn(count).double() * 50)


@pytest.mark.parametrize("n", SIZES)
def test_the_matrices_are_those_of_the_definition(n):
    a, b, p = hippo_legs(n)
    for i in range(n):
        assert (b[i].item(), p[i].item()) == pytest.approx((math.sqrt(2 * i + 1), math.sqrt(i + 0.5)), rel=1e-15)
        for j in range(n):
            entry = -(i + 1) if i == j else -math.sqrt(2 * i + 1) * math.sqrt(2 * j + 1) if i > j else 0
            assert a[i, j].item() == pytest.approx(entry, rel=1e-15)


@pytest.mark.parametrize("n", SIZES)
def test_the_normal_part_is_normal(n):
    a, _, p = hippo_legs(n)
    s = legs_normal_part(n)
    assert_close(s, a + torch.outer(p, p), atol=1e-13 * n, rtol=0)
    assert_close(s + s.mT, -torch.eye(n, dtype=s.dtype), atol=0, rtol=0)


@pytest.mark.parametrize("n", SIZES)
def test_the_normal_part_is_diagonalised_with_fixed_phases(n):
    values, v = legs_normal_diagonalize(n)
    s, eye = legs_normal_part(n).to(v.dtype), torch.eye(n, dtype=v.dtype)
    assert_close(v.mH @ v, eye, atol=1e-13, rtol=0)
    assert_close(v @ torch.diag(values) @ v.mH, s, atol=1e-14 * n**2, rtol=0)
    assert_close((1 + phi(n, values)).abs(), torch.zeros(n, dtype=torch.float64), atol=1e-12, rtol=0)
    assert_close(values, values.conj().flip(0).resolve_conj(), atol=0, rtol=0)
    assert_close(v, v.conj().flip(1).resolve_conj(), atol=0, rtol=0)
    assert (values.imag.diff() > 0).all()
    b = v.mH @ hippo_legs(n)[1].to(v.dtype)
    assert b.real.min() > 0.3
    assert_close(b.imag, torch.zeros_like(b.imag), atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [2, 9, 64, 200])
def test_frequencies_are_eigenvalues(n):
    exact = np.linalg.eigvals(legs_normal_part(n).numpy()).imag
    assert_close(legs_frequencies(n), torch.from_numpy(np.sort(exact)[::-1][: n // 2].copy()), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n", SIZES)
def test_hippo_is_its_normal_part_times_one_plus_phi(n):
    a, b, _ = hippo_legs(n)
    c, s = torch.randn(3, n).double(), random_points()
    exact = transfer_function(a, b, c, s)
    diagonal = transfer_function(legs_normal_part(n), b / 2, c, s)
    assert_close(exact, (1 + phi(n, s))[:, None] * diagonal, atol=1e-9, rtol=1e-9)
    assert_close(transfer_function(a, b, None, s), legs_state_response(n, s), atol=1e-11, rtol=1e-11)
    w = torch.tensor([0.0, 0.3, 5.0, 1e4]).double()
    assert_close(phi(n, 1j * w).abs(), w / (w**2 + n**2).sqrt())


@pytest.mark.parametrize("n", GAINS)
def test_the_table_of_gains(n):
    highest, peaks = GAINS[n]
    assert legs_frequencies(n)[0].item() == pytest.approx(highest, abs=6e-6)
    for (w, gain), *found in zip(peaks, *(x.tolist() for x in gain_peaks(n, len(peaks))), strict=True):
        assert found == [
            pytest.approx(w, abs=6e-3),
            pytest.approx(gain, abs=0.06 if gain > 30 and gain < 400 else 6e-3),
        ]


def test_a_peak_is_the_ratio_of_the_dense_systems():
    n = 16
    a, b, _ = hippo_legs(n)
    w, gain = gain_peaks(n, 1)
    near = w + torch.linspace(-0.01, 0.01, 21).double()
    ratios = [transfer_function(m, x, None, 1j * near) for m, x in ((legs_normal_part(n), b / 2), (a, b))]
    ratio = torch.linalg.vector_norm(ratios[0], dim=-1) / torch.linalg.vector_norm(ratios[1], dim=-1)
    assert ratio.max().item() == pytest.approx(gain.item(), rel=1e-6)
    assert ratio.argmax() == 10


@pytest.mark.parametrize("n", [5, 32])
def test_a_rank_one_perturbation_has_a_known_and_bounded_gain(n):
    a, b, p = hippo_legs(n)
    w = torch.cat([torch.rand(50).double() * n**2, legs_frequencies(n)])
    exact = legs_state_response(n, 1j * w)
    for tau in torch.rand(4).double().tolist():
        perturbed = transfer_function(a + tau * torch.outer(p, p), b, None, 1j * w)
        assert_close(perturbed, 2 / (2 - tau + tau * phi(n, 1j * w))[:, None] * exact, atol=1e-11, rtol=1e-10)
        gain, scaled = lowrank_gain(n, w, tau, scaled=False), lowrank_gain(n, w, tau)
        rho = tau / (2 - tau)
        assert_close(torch.linalg.vector_norm(perturbed, dim=-1), gain * torch.linalg.vector_norm(exact, dim=-1))
        assert (gain - 1).abs().max() <= tau / (1 - tau)
        assert (scaled - 1).abs().max() <= rho / (1 - rho)
    assert_close(lowrank_gain(n, w, 0.0), torch.ones_like(w))


def square_integral(weights, exponents, end=6.0):
    """Of a sum of exponentials over (0, end]."""
    pairs = exponents[:, None] + exponents.conj()
    return (weights[:, None] * weights.conj() * ((pairs * end).exp() - 1) / pairs).sum().real


def test_the_response_to_an_impulse_does_not_converge_and_that_to_a_sine_does():
    """Relative error of state 0 over (0, 6] against the exact e^-t, for n = 8, 16, ... 128; 1/sqrt(2) in the limit."""
    t = torch.linspace(0, 6, 6001, dtype=torch.float64)
    sine = (2 * (-t).exp() - 2 * (2 * t).cos() + (2 * t).sin()) / 5
    one = torch.ones(1, dtype=torch.complex128)
    impulse_errors, sine_errors = [], []
    for n in (8, 16, 32, 64, 128):
        values, v = legs_normal_diagonalize(n)
        weights = v[0] * (v.mH @ hippo_legs(n)[1].to(v.dtype)) / 2
        error = square_integral(torch.cat([weights, -one]), torch.cat([values, -one]))
        impulse_errors.append((error / square_integral(one, -one)).sqrt().item())
        modes = 2 * (values[:, None] * t).exp() - 2 * (2 * t).cos() - values[:, None] * (2 * t).sin()
        driven = (weights @ (modes / (values[:, None] ** 2 + 4))).real
        sine_errors.append((torch.dist(driven, sine) / sine.norm()).item())
    assert impulse_errors == pytest.approx([0.6948, 0.7032, 0.7051, 0.7058, 0.7060], abs=1e-4)
    assert sine_errors == pytest.approx([0.155, 0.057, 0.014, 0.0023, 0.0004], rel=0.12)


def test_the_states_of_an_impulse_are_legendre_polynomials():
    n, times = 8, [0.1, 1.0, 4.0]
    a, b, _ = (x.numpy() for x in hippo_legs(n))
    for t in times:
        exact = [
            math.sqrt(2 * k + 1) * np.polynomial.legendre.Legendre.basis(k)(2 * math.exp(-t) - 1) * math.exp(-t)
            for k in range(n)
        ]
        np.testing.assert_allclose(scipy.linalg.expm(a * t) @ b, exact, atol=1e-13)


def test_transfer_function_of_all_shapes():
    n, s = 5, random_points(6).reshape(2, 3)
    a, b, c = torch.randn(n, n).double(), torch.randn(n, 2).double(), torch.randn(3, n).double()
    inverse = torch.linalg.inv(s[..., None, None] * torch.eye(n) - a)
    assert_close(transfer_function(a, b, c, s), c.to(s.dtype) @ inverse @ b.to(s.dtype))
    assert transfer_function(a, b[:, 0], c, s).shape == (2, 3, 3)
    assert transfer_function(a, b, c[0], s).shape == (2, 3, 2)
    assert transfer_function(a, b, None, s).shape == (2, 3, n, 2)
    assert transfer_function(a, b[:, 0], c[0], s[0, 0]).shape == ()
    values = torch.randn(n, dtype=torch.complex128)
    for inputs in (b, b[:, 0]):
        for outputs in (c, c[0], None):
            dense = transfer_function(torch.diag(values), inputs, outputs, s)
            assert_close(transfer_function(values, inputs, outputs, s), dense)


def test_the_condition_number_does_not_depend_on_the_length_of_the_columns():
    v = torch.randn(3, 6, 6, dtype=torch.complex128)
    scaled = v * torch.rand(6).double().add(0.1)
    assert_close(eigenvector_condition(v), eigenvector_condition(scaled))
    values, v = np.linalg.eig(hippo_legs(8)[0].numpy())
    assert eigenvector_condition(torch.from_numpy(v)).item() == pytest.approx(7.7e4, rel=0.01)
    assert eigenvector_condition(legs_normal_diagonalize(8)[1]).item() == pytest.approx(1)


@pytest.mark.parametrize("n", [4, 16, 64])
def test_s4d_eigenvalues_are_those_of_the_table(n):
    k = torch.arange(n // 2).double()
    half = torch.full_like(k, -0.5)
    assert_close(s4d_init("inv", n), torch.complex(half, n / math.pi * (n / (2 * k + 1) - 1)))
    assert_close(s4d_init("lin", n), torch.complex(half, math.pi * k))
    assert_close(s4d_init("quad", n), torch.complex(half, (1 + 2 * k) ** 2 / math.pi))
    assert_close(s4d_init("inv2", n), torch.complex(half, n / math.pi * (n / (k + 1) - 1)))
    assert_close(s4d_init("real", n), torch.complex(-(k + 1), 0 * k))
    assert_close(s4d_init("legs", n), legs_normal_diagonalize(n)[0][: n // 2].conj().resolve_conj())
    for name in ("lin", "inv", "real"):
        assert_close(s4d_init(f"diag-{name}", n), s4d_init(name, n))


def test_s4d_figures_at_64():
    assert s4d_init("legs", 64).imag[[0, 1, 2, -3, -2, -1]].tolist() == pytest.approx(
        [1303.274, 433.031, 258.152, 1.703, 0.906, 0.264], abs=6e-4
    )
    assert s4d_init("inv", 64).imag[[0, 1, 2, -1]].tolist() == pytest.approx(
        [1283.425, 414.227, 240.388, 0.323], abs=6e-4
    )
    assert s4d_init("lin", 64).imag[-1].item() == pytest.approx(97.389, abs=6e-4)


@pytest.mark.parametrize("name", ["random", "imag-random", "real-random"])
def test_random_eigenvalues_follow_the_generator(name):
    draws = [s4d_init(name, 2048, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert_close(draws[0], draws[1], atol=0, rtol=0)
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].real.max() < 0 and draws[0].imag.min() >= 0
    log = {"imag-random": draws[0].imag.log(), "real-random": (-draws[0].real).log()}.get(name)
    if log is None:
        assert draws[0].imag.max() < 1024 and draws[0].imag.mean().item() == pytest.approx(512, rel=0.1)
        assert draws[0].real.mean().item() == pytest.approx(-0.5, rel=0.1)
    else:
        assert (log.mean().item(), log.std().item()) == (pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1))


def test_everything_stays_on_the_cpu_under_another_default_device():
    with torch.device("meta"):
        tensors = [*hippo_legs(5), *legs_normal_diagonalize(5), *gain_peaks(5, 1)]
        tensors += [s4d_init(name, 4) for name in S4D_INITS]
    assert {x.device.type for x in tensors} == {"cpu"}


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "4"])
def test_a_bad_order_is_named(n):
    for call in (hippo_legs, legs_normal_diagonalize, lambda n: phi(n, torch.zeros(1)), lambda n: s4d_init("lin", n)):
        with pytest.raises(ValueError, match="`n` must be an"):
            call(n)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="`n` must be an even integer of at least 2, got 5"):
        s4d_init("lin", 5)
    with pytest.raises(ValueError, match="`name` must be one of legs, .*, got 'fourier'"):
        s4d_init("fourier", 4)
    with pytest.raises(ValueError, match="`tau` must be between 0 and 1, got 1.5"):
        lowrank_gain(4, torch.ones(1), 1.5)
    with pytest.raises(ValueError, match="`count` must be between 1 and 2 for n = 4, got 3"):
        gain_peaks(4, 3)
    a, b, _ = hippo_legs(4)
    for wrong, arguments in {
        "`a` must have shape": (a[:3], b, None),
        "`b` must have shape": (a, b[:3], None),
        "`c` must have shape": (a, b, torch.ones(2, 3)),
    }.items():
        with pytest.raises(ValueError, match=wrong):
            transfer_function(*arguments, torch.ones(1))
