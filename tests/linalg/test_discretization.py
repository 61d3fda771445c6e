# SPDX-License-Identifier: Apache-2.0
"""Discretisation rules against SciPy, arbitrary precision and their own limits."""

import mpmath
import numpy as np
import pytest
import scipy.signal
import torch
from torch.testing import assert_close

from eigenhub.linalg.discretization import METHODS, SERIES_BELOW, discretize, dss_factor, exprel


def random_system(count=12):
    real, imag = -torch.rand(count).double() * 3, torch.randn(count).double() * 20
    return real, imag, torch.rand(count).double() * 0.3


@pytest.mark.parametrize("method", METHODS)
def test_equals_scipy(method):
    real, imag, step = random_system()
    got = discretize(real, imag, step, method)
    for k in range(len(step)):
        a, one = np.array([[complex(real[k], imag[k])]]), np.ones((1, 1))
        lbar, factor, *_ = scipy.signal.cont2discrete((a, one, one, 0 * one), step[k].item(), method)
        assert complex(got[0][k], got[1][k]) == pytest.approx(complex(lbar[0, 0]), rel=1e-12, abs=1e-14)
        assert complex(got[2][k], got[3][k]) == pytest.approx(complex(factor[0, 0]), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-12, 1e-5, 0.999 * SERIES_BELOW, 1.001 * SERIES_BELOW, 0.1, 1, 30])
@pytest.mark.parametrize("angle", [0.0, 1.6, 3.1, 4.0])
def test_exprel_has_no_cancellation(size, angle):
    with mpmath.workdps(400):
        z = mpmath.mpc(*(float(x) for x in (size * torch.tensor(angle).cos(), size * torch.tensor(angle).sin())))
        exact = complex((mpmath.exp(z) - 1) / z) if z else 1.0
    re, im = exprel(torch.tensor(float(z.real)).double(), torch.tensor(float(z.imag)).double())
    assert complex(re, im) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-2, 1.0])
def test_gradients_hold_down_to_zero(method, scale):
    real, imag, step = random_system(6)
    inputs = [(scale * real).requires_grad_(), (scale * imag).requires_grad_(), step.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *x: discretize(*x, method), inputs)


@pytest.mark.parametrize("method", METHODS)
def test_limits(method):
    real, imag, step = random_system()
    zero = torch.zeros_like(step)
    re, im, gain_re, gain_im = discretize(zero, zero, step, method)  # an integrator
    for got, want in ((re, zero + 1), (im, zero), (gain_re, step), (gain_im, zero)):
        assert torch.equal(got, want)
    re, im, gain_re, gain_im = discretize(real, imag, zero, method)  # no time passes: the state is held
    assert torch.equal(re, zero + 1) and not im.any() and not gain_re.any() and not gain_im.any()
    re, im, *_ = discretize(real, imag, 1e6 * step, method)
    assert (re.square() + im.square()).max() <= 1
    for small in (1e-4, 1e-8):  # both are one Euler step to first order
        *_, gain_re, gain_im = discretize(real, imag, small * step, method)
        assert_close(gain_re / (small * step), zero + 1, atol=20 * small, rtol=0)


def test_float64_arithmetic_for_float32_parameters():
    real, imag, step = (x.float() for x in random_system())
    imag = imag * 1e4  # thousands of radians per step
    exact = discretize(real.double(), imag.double(), step.double())
    for got, want in zip(discretize(real, imag, step, dtype=torch.float64), exact, strict=True):
        assert torch.equal(got, want)
    assert discretize(real, imag, step)[0].dtype == torch.float32
    assert (discretize(real, imag, step)[0] - exact[0]).abs().max() > 1e-4  # what the option is for


def test_shapes_broadcast_and_the_meta_device_works():
    real, imag, step = torch.empty(4, 1, 3), torch.empty(3), torch.empty(5, 1)
    for device in ("cpu", "meta"):
        found = discretize(real.to(device), imag.to(device), step.to(device))
        assert [x.shape for x in found] == [(4, 5, 3)] * 4
        assert {x.device.type for x in found} == {device}


def test_dss_divides_the_powers_by_their_sum():
    real, imag, step = random_system(5)
    length = 40
    re, im, gain_re, gain_im = dss_factor(real - 0.1, imag, step, length)
    values = torch.complex(real - 0.1, imag)
    powers = (values[:, None] * step[:, None] * torch.arange(length)).exp()
    softmax = powers / powers.sum(-1, keepdim=True)
    kernel = 2 * torch.complex(gain_re, gain_im)[:, None] * torch.complex(re, im)[:, None] ** torch.arange(length)
    assert_close(kernel, softmax / values[:, None], rtol=1e-4, atol=1e-6)  # the released code adds 1e-7


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="`method` must be one of zoh, bilinear, got 'euler'"):
        discretize(torch.ones(1), torch.ones(1), torch.ones(1), "euler")
