# SPDX-License-Identifier: Apache-2.0
"""Kernels of diagonal systems against the Vandermonde matrix, SciPy's impulse responses and the recurrence."""

import time

import numpy as np
import pytest
import scipy.signal
import torch
from torch.testing import assert_close

from eigenhub.linalg.hippo import hippo_legs, legs_normal_diagonalize, s4d_init
from eigenhub.linalg.powers import integer_power, power_table, wide_dtype
from eigenhub.linalg.ssm_kernel import diagonal_kernel, diagonal_kernel_reference, s4d_kernel


LENGTHS = [1, 2, 3, 63, 64, 65, 1000]


def random_system(channels=3, states=4, dtype=torch.float64):
    real, imag = -torch.rand(channels, states).double() - 0.05, torch.randn(channels, states).double() * 30
    step = torch.rand(channels).double() * 0.1 + 1e-3
    return real.to(dtype), imag.to(dtype), torch.randn(channels, states, 2).to(dtype), step.to(dtype)


def random_discrete(channels=3, states=4, lead=()):
    lbar = torch.polar(0.8 + 0.2 * torch.rand(channels, states).double(), 6 * torch.rand(channels, states).double())
    return torch.view_as_real(lbar).clone(), torch.randn(*lead, channels, states, 2).double()


@pytest.mark.parametrize("length", LENGTHS)
def test_two_levels_are_the_vandermonde_product(length):
    lbar, c = random_discrete(lead=(2, 5))
    kernel = diagonal_kernel(lbar, c, length)
    assert kernel.shape == (2, 5, 3, length)
    assert_close(kernel, diagonal_kernel_reference(lbar, c, length), atol=1e-12, rtol=0)
    assert_close(kernel[..., 0], 2 * c[..., 0].sum(-1))  # K_0 = 2 Re C B


@pytest.mark.parametrize("length", [63, 1000])
def test_it_is_the_impulse_response_of_the_recurrence(length):
    lbar, c = random_discrete()
    state, outputs = torch.view_as_complex(c), []
    for _ in range(length):
        outputs.append(2 * state.sum(-1).real)
        state = torch.view_as_complex(lbar) * state
    assert_close(diagonal_kernel(lbar, c, length), torch.stack(outputs, -1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_equals_the_discrete_system_of_scipy(method):
    real, imag, c, step = random_system()
    kernel = s4d_kernel(real, imag, c, step, 50, method=method)
    for h in range(len(step)):
        a, b = np.diag(torch.complex(real[h], imag[h]).numpy()), np.ones((4, 1))
        lbar, bbar, *_ = scipy.signal.cont2discrete((a, b, b.T, 0 * b[:1]), step[h].item(), method)
        weights, state, expected = torch.view_as_complex(c)[h].numpy(), bbar[:, 0], []
        for _ in range(50):
            expected.append(2 * (weights @ state).real)
            state = lbar @ state
        np.testing.assert_allclose(kernel[h].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
@pytest.mark.parametrize("name", ["legs", "lin", "real"])
def test_float32_parameters_lose_nothing_over_long_sequences(name, method):
    values = s4d_init(name, 64)[None].repeat(4, 1)
    step, c = torch.tensor([1e-3, 1e-2, 0.05, 0.1]), torch.randn(4, 32, 2)
    real, imag = values.real.float(), values.imag.float()
    exact = s4d_kernel(real.double(), imag.double(), c.double(), step.double(), 16384, method=method)
    kernel = s4d_kernel(real, imag, c, step, 16384, method=method)
    assert kernel.dtype == torch.float32
    assert (kernel - exact).abs().max() < 2e-6 * exact.abs().max()


def test_a_state_that_the_bilinear_rule_stops_dead_is_no_trap():
    """λΔ = -2 gives a discrete eigenvalue of 0, whose logarithm does not exist."""
    inputs = [-20 * torch.ones(1, 1), torch.zeros(1, 1), torch.ones(1, 1, 2), torch.ones(1)]
    leaves = [x.double().requires_grad_() for x in (*inputs[:3], 0.1 * inputs[3].double())]
    kernel = s4d_kernel(*leaves, 5, method="bilinear")
    assert_close(kernel[0], torch.tensor([0.1, 0, 0, 0, 0], dtype=torch.float64), atol=1e-15, rtol=1e-12)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(kernel.sum(), leaves))


@pytest.mark.parametrize("method", ["zoh", "bilinear", "dss"])
def test_gradients(method):
    leaves = [x.requires_grad_() for x in random_system(2, 2)]
    assert torch.autograd.gradcheck(lambda *x: s4d_kernel(*x, 7, method=method), leaves)


def test_gradients_equal_those_of_the_vandermonde_product():
    inputs, length = random_discrete(lead=(2,)), 200
    weights = torch.randn(2, 3, length).double()
    found = []
    for compute in (diagonal_kernel, diagonal_kernel_reference):
        leaves = [x.clone().requires_grad_() for x in inputs]
        found.append(torch.autograd.grad((compute(*leaves, length) * weights).sum(), leaves))
    for got, want in zip(*found, strict=True):
        assert_close(got, want, atol=1e-10, rtol=1e-10)


def test_a_rate_scales_the_step():
    real, imag, c, step = random_system()
    assert_close(s4d_kernel(real, imag, c, step, 30, rate=2.0), s4d_kernel(real, imag, c, 2 * step, 30))
    per_state = step[:, None].expand(-1, 4)
    assert_close(s4d_kernel(real, imag, c, per_state, 30), s4d_kernel(real, imag, c, step, 30))


def test_the_backends_agree():
    arguments = random_system()
    assert_close(s4d_kernel(*arguments, 90, backend="reference"), s4d_kernel(*arguments, 90), atol=1e-12, rtol=0)


def test_dss_is_a_softmax_over_the_length():
    real, imag, c, step = random_system()
    values = torch.complex(real, imag)
    powers = (values[..., None] * step[:, None, None] * torch.arange(60)).exp()
    weights = torch.view_as_complex(c) / values
    expected = torch.einsum("hn,hnl->hl", weights, powers / powers.sum(-1, keepdim=True)).real
    assert_close(s4d_kernel(real, imag, c, step, 60, method="dss"), expected, atol=1e-5, rtol=1e-4)


def test_the_kernel_of_legs_is_close_to_that_of_hippo_in_the_mean():
    """Sums of the kernel over a time of 1/2 agree to O(1/n); single values do not."""
    n, step, length = 128, 1e-3, 4000
    values, v = legs_normal_diagonalize(n)
    b = v.mH @ hippo_legs(n)[1].to(v.dtype) / 2
    coefficient = torch.view_as_real((v[0] * b)[: n // 2].resolve_conj())[None]
    half = values[: n // 2][None]
    kernel = s4d_kernel(half.real, half.imag, coefficient, torch.tensor([step]).double(), length)[0]
    exact = (-step * torch.arange(length).double()).exp() * -torch.expm1(torch.tensor(-step).double())
    assert ((kernel - exact).abs() / exact).max() > 0.5
    means = [x.unflatten(0, (-1, 500)).sum(-1) for x in (kernel, exact)]
    assert (means[0] - means[1]).abs().max() < 0.005 * means[1].max()


def test_a_million_steps_fit():
    lbar, c = random_discrete(1, 2)
    lbar = lbar / torch.linalg.vector_norm(lbar, dim=-1, keepdim=True)
    kernel = diagonal_kernel(lbar, c.float(), 10**6)
    last = 2 * (torch.view_as_complex(c) * torch.view_as_complex(lbar) ** (10**6 - 1)).real.sum()
    assert kernel.shape == (1, 10**6) and kernel[0, -1].item() == pytest.approx(last.item(), abs=1e-5)


def test_half_precision_coefficients_and_autocast_give_float32():
    lbar, c = random_discrete()
    exact = diagonal_kernel(lbar, c.bfloat16().double(), 100)
    with torch.autocast("cpu", torch.bfloat16):
        kernel = diagonal_kernel(lbar, c.bfloat16(), 100)
    assert kernel.dtype == torch.float32
    assert_close(kernel.double(), exact, atol=2e-5, rtol=0)


def test_shapes_on_the_meta_device():
    lbar, c = (x.to("meta") for x in random_discrete())
    assert diagonal_kernel(lbar, c, 100).shape == (3, 100)


def test_powers():
    z = torch.polar(torch.tensor([1.0, 0.9, 0.0]).double(), torch.tensor([2.0, -1.0, 0.0]).double())
    exponents = torch.arange(70)
    exact = torch.where(exponents == 0, 1, z[:, None] ** exponents)  # torch says 0 ** 0 is NaN
    assert_close(torch.complex(*power_table(z.real, z.imag, 70)).mT, exact, atol=1e-13, rtol=0)
    single = integer_power(z.real[:, None], z.imag[:, None], exponents, 69)
    assert_close(torch.complex(*single), exact, atol=1e-13, rtol=0)
    assert power_table(z.real, z.imag, 1)[0].tolist() == [[1.0] * 3]
    leaves = [z.real.clone().requires_grad_(), z.imag.clone().requires_grad_()]
    assert torch.autograd.gradcheck(lambda re, im: power_table(re, im, 6), leaves)
    assert wide_dtype(torch.float32, torch.device("mps")) == torch.float32
    assert wide_dtype(torch.float32, torch.device("cpu")) == torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "`length` must be an integer of at least 1, got 0"),
        ({"length": 2.5}, "`length` must be an integer of at least 1, got 2.5"),
        ({"method": "euler"}, "`method` must be one of zoh, bilinear, dss, got 'euler'"),
        ({"backend": "cuda"}, "`backend` must be one of two_level, reference, got 'cuda'"),
        ({"coefficient": torch.ones(3, 5, 2)}, r"`coefficient` must have shape \(..., 3, 4, 2\), got \(3, 5, 2\)"),
        ({"lambda_im": torch.ones(3)}, r"must have one shape \(channels, states\), got \(3, 4\) and \(3,\)"),
        ({"step": torch.ones(4)}, r"`step` must have shape \(3,\) or \(3, 4\), got \(4,\)"),
    ],
)
def test_bad_input_is_named(change, message):
    real, imag, c, step = random_system()
    arguments = {"lambda_re": real, "lambda_im": imag, "coefficient": c, "step": step, "length": 8}
    with pytest.raises(ValueError, match=message):
        s4d_kernel(**{**arguments, **change})


def test_bad_discrete_systems_are_named():
    with pytest.raises(ValueError, match=r"`lbar` must have shape \(channels, states, 2\), got \(4, 2\)"):
        diagonal_kernel(torch.ones(4, 2), torch.ones(4, 2), 3)
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        power_table(torch.ones(1), torch.ones(1), 0)


@pytest.mark.slow
def test_it_is_many_times_quicker_than_the_vandermonde_matrix():
    values = s4d_init("lin", 64)[None].repeat(128, 1)
    lbar = torch.view_as_real((values * 0.01).exp()).float().contiguous()

    def seconds(compute):
        leaves = [lbar.clone().requires_grad_(), torch.randn(128, 32, 2, requires_grad=True)]
        started = time.process_time()
        compute(*leaves, 4096).square().sum().backward()
        return time.process_time() - started

    fast = min(seconds(diagonal_kernel) for _ in range(3))
    assert seconds(diagonal_kernel_reference) > 20 * fast
