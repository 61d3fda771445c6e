# SPDX-License-Identifier: Apache-2.0
"""One S5 layer under several implementations: forward and backward over the same input with the same parameters."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from eigenhub.linalg.discretization import discretize
from eigenhub.linalg.hippo import s4d_init
from eigenhub.linalg.scan import diagonal_ssm
from eigenhub.linalg.ssm_kernel import diagonal_kernel, diagonal_kernel_reference


Call = Callable[[], tuple[Tensor, Tensor]]


def parameters(features: int, states: int) -> dict[str, Tensor]:
    """Continuous parameters of an S5 layer: LegS eigenvalues, one of each conjugate pair."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"b": (states, features, 2), "c": (features, states, 2), "d": (features,)}
    maps = {name: torch.randn(shape, generator=generator) / states**0.5 for name, shape in shapes.items()}
    log_step = torch.empty(states).uniform_(math.log(1e-3), math.log(1e-1), generator=generator)
    return {"eigenvalues": torch.view_as_real(s4d_init("legs", 2 * states)).float(), "log_step": log_step, **maps}


def inputs(batch: int, length: int, features: int) -> tuple[Tensor, Tensor]:
    """Input and upstream gradient."""
    generator = torch.Generator().manual_seed(1)
    u, upstream = torch.randn(2, batch, length, features, generator=generator).unbind()
    return u.clone().requires_grad_(), upstream.clone()


def step_of(layer: Callable[[Tensor], Tensor], leaves: list[Tensor], u: Tensor, upstream: Tensor) -> Call:
    """A call that runs a layer forward and backward to parameters and input; it returns output and input gradient."""

    def call() -> tuple[Tensor, Tensor]:
        y = layer(u)
        *_, grad = torch.autograd.grad(y, [*leaves, u], upstream)
        return y.detach(), grad

    return call


def eigenhub_layer(features: int, states: int, backend: str = "fused") -> tuple[Callable, list[Tensor]]:
    """Our layer; `"associative"` is torch's own scan under the same products."""
    p = {name: tensor.clone().requires_grad_() for name, tensor in parameters(features, states).items()}

    def layer(u: Tensor) -> Tensor:
        re, im = p["eigenvalues"].unbind(-1)
        real, imag, gain_re, gain_im = discretize(re, im, p["log_step"].exp())
        b_re, b_im = p["b"].unbind(-1)
        gain_re, gain_im = gain_re[:, None], gain_im[:, None]
        bbar = torch.stack([gain_re * b_re - gain_im * b_im, gain_re * b_im + gain_im * b_re], -1)
        return diagonal_ssm(u, torch.stack([real, imag], -1), bbar, p["c"], p["d"], backend=backend)[0]

    return layer, list(p.values())


def s5_pytorch_layer(features: int, states: int) -> tuple[Callable, list[Tensor]]:
    """The layer of the s5-pytorch package, which keeps complex parameters, with our numbers in it."""
    from s5 import S5

    p = parameters(features, states)
    model = S5(features, states)
    with torch.no_grad():
        model.seq.Lambda.copy_(torch.view_as_complex(p["eigenvalues"]))
        model.seq.C.copy_(torch.view_as_complex(p["c"]))
        model.seq.B.copy_(p["b"])
        model.seq.D.copy_(p["d"])
        model.seq.log_step.copy_(p["log_step"].view_as(model.seq.log_step))
    return model, list(model.parameters())


def products_only(features: int, states: int) -> tuple[Callable, list[Tensor]]:
    """The two projections and the feedthrough without any recurrence: no implementation on products can be faster."""
    p = parameters(features, states)
    leaves = [p["b"].flatten(1).reshape(2 * states, features), p["c"].flatten(1), p["d"]]
    w_in, w_out, d = (leaf.clone().requires_grad_() for leaf in leaves)
    return lambda u: torch.addcmul(u @ w_in.mT @ w_out.mT, u, d), [w_in, w_out, d]


def s4d_system(channels: int, states: int) -> tuple[Tensor, Tensor]:
    """Discrete eigenvalues and coefficients of S4D-Lin, both `(channels, states, 2)`."""
    generator = torch.Generator().manual_seed(0)
    step = torch.empty(channels, 1).uniform_(math.log(1e-3), math.log(1e-1), generator=generator).exp()
    values = s4d_init("lin", 2 * states)
    real, imag, gain_re, gain_im = discretize(values.real.float(), values.imag.float(), step)
    c = torch.randn(channels, states, dtype=torch.complex64, generator=generator) * torch.complex(gain_re, gain_im)
    return torch.stack([real, imag], -1).requires_grad_(), torch.view_as_real(c).requires_grad_()


def s4d_kernel_call(channels: int, states: int, length: int, naive: bool) -> Call:
    """Makes a kernel forward and backward."""
    lbar, coefficient = s4d_system(channels, states)
    upstream = torch.randn(channels, length, generator=torch.Generator().manual_seed(1))
    make = diagonal_kernel_reference if naive else diagonal_kernel

    def call() -> tuple[Tensor, Tensor]:
        kernel = make(lbar, coefficient, length)
        _, grad = torch.autograd.grad(kernel, [lbar, coefficient], upstream)
        return kernel.detach(), grad

    return call


def naive_s4d_layer(features: int, states: int) -> tuple[Callable, list[Tensor]]:
    """S4D as its official code runs it without its compiled extension: the whole Vandermonde matrix, then an FFT."""
    lbar, coefficient = s4d_system(features, states)

    def layer(u: Tensor) -> Tensor:
        length = u.shape[1]
        kernel = diagonal_kernel_reference(lbar, coefficient, length)
        spectrum = torch.fft.rfft(u, n=2 * length, dim=1) * torch.fft.rfft(kernel, n=2 * length).mT
        return torch.fft.irfft(spectrum, n=2 * length, dim=1)[:, :length]

    return layer, [lbar, coefficient]
