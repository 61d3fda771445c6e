# SPDX-License-Identifier: Apache-2.0
"""Convolutions and state passing of channel-wise systems against the loop over steps."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from eigenhub.linalg import chunk_convolution, fft_convolution
from eigenhub.linalg.fft_convolution import fast_length
from eigenhub.linalg.hippo import discretize, s4d_init
from eigenhub.linalg.siso import SISO_BACKENDS, siso_bidirectional, siso_ssm
from eigenhub.linalg.siso_state import final_state, state_response
from eigenhub.linalg.siso_step import siso_step
from eigenhub.linalg.ssm_kernel import diagonal_kernel


LENGTHS = [1, 2, 63, 64, 65, 130]
FAST = ["chunk", "fft"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of two channels and of single rows, so that the loops over blocks turn several times."""
    monkeypatch.setattr(fft_convolution, "LEAST_CHANNELS", 2)
    for module in (fft_convolution, chunk_convolution):
        monkeypatch.setattr(module, "CPU_BLOCK", 2)


def random_system(channels=3, states=2, dtype=torch.float64):
    modulus, angle = 0.5 + 0.5 * torch.rand(channels, states).double(), 6.3 * torch.rand(channels, states).double()
    lbar = torch.view_as_real(torch.polar(modulus, angle)).clone()
    return [x.to(dtype) for x in (lbar, *torch.randn(2, channels, states, 2).double())]


def random_case(length, batch=3, channels=3, states=2, dtype=torch.float64):
    """Input, the three maps of a system, a state."""
    u, state = torch.randn(batch, length, channels, dtype=dtype), torch.randn(batch, channels, states, 2, dtype=dtype)
    return [u, *random_system(channels, states, dtype), state]


def outputs_and_gradients(case, backend, **options):
    leaves = [x.clone().requires_grad_() for x in case]
    y, final = siso_ssm(*leaves[:4], initial_state=leaves[4], return_state=True, backend=backend, **options)
    (y.sin().sum() + final.square().sum() + final.sum()).backward()
    return y, final, *(x.grad for x in leaves)


@pytest.mark.parametrize("chunk_size", [None, 1, 16])
@pytest.mark.parametrize("length", LENGTHS)
def test_backends_equal_the_loop_in_values_and_gradients(length, chunk_size, small_blocks, nan_empty):
    case = random_case(length)
    expected = outputs_and_gradients(case, "reference")
    for backend in FAST:
        for got, want in zip(outputs_and_gradients(case, backend, chunk_size=chunk_size), expected, strict=True):
            assert_close(got, want, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("length", [1000, 4096])
@pytest.mark.parametrize("backend", FAST)
def test_float32_on_long_sequences(length, backend):
    values = s4d_init("legs", 64)[None].repeat(4, 1)
    step = torch.tensor([1e-3, 1e-2, 0.05, 0.1]).double()[:, None]
    lbar_re, lbar_im, gain_re, gain_im = discretize(values.real, values.imag, step)
    lbar, bbar = torch.stack([lbar_re, lbar_im], -1), torch.stack([gain_re, gain_im], -1)
    u, c = torch.randn(2, length, 4), torch.randn(4, 32, 2)
    exact, last = siso_ssm(u.double(), lbar, bbar, c.double(), return_state=True, backend="reference")
    y, final = siso_ssm(u, lbar, bbar.float(), c, return_state=True, backend=backend)
    assert (y - exact).abs().max() < 1e-5 * exact.abs().max()
    assert (final - last).abs().max() < 1e-5 * last.abs().max()


@pytest.mark.parametrize("backend", FAST)
def test_gradcheck(backend):
    leaves = [x.requires_grad_() for x in random_case(7, batch=2, channels=2)]

    def run(u, lbar, bbar, c, state):
        return siso_ssm(u, lbar, bbar, c, initial_state=state, return_state=True, backend=backend, chunk_size=3)

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("backend", [*FAST, "reference"])
@pytest.mark.parametrize("cut", [1, 17, 64])
def test_two_halves_are_the_whole(backend, cut):
    u, *system, state = random_case(100)
    whole, last = siso_ssm(u, *system, initial_state=state, return_state=True, backend=backend)
    first, between = siso_ssm(u[:, :cut], *system, initial_state=state, return_state=True, backend=backend)
    second, end = siso_ssm(u[:, cut:], *system, initial_state=between, return_state=True, backend=backend)
    assert_close(torch.cat([first, second], 1), whole, atol=1e-11, rtol=1e-11)
    assert_close(end, last, atol=1e-11, rtol=1e-11)


def test_steps_continue_a_sequence():
    u, *system, state = random_case(20)
    whole, last = siso_ssm(u, *system, initial_state=state, return_state=True)
    y, state = siso_ssm(u[:, :10], *system, initial_state=state, return_state=True)
    outputs = [*y.unbind(1)]
    for step in u[:, 10:].unbind(1):
        y, state = siso_step(step, state, *system)
        outputs.append(y)
    assert_close(torch.stack(outputs, 1), whole)
    assert_close(state, last)


@pytest.mark.parametrize("backend", ["auto", *FAST, "reference"])
@pytest.mark.parametrize("length", [1, 2, 30])
def test_both_directions_are_the_double_sum(length, backend, small_blocks):
    """The current step belongs to the forward kernel only."""
    u, lbar, bbar, c, _ = random_case(length)
    c_reverse = torch.randn_like(c)
    values, b = torch.view_as_complex(lbar), torch.view_as_complex(bbar)
    expected = torch.zeros_like(u)
    for t, s in itertools.product(range(length), repeat=2):
        weights, lag = (c, t - s) if s <= t else (c_reverse, s - t - 1)
        expected[:, t] += 2 * (torch.view_as_complex(weights) * b * values**lag).sum(-1).real * u[:, s]
    assert_close(siso_bidirectional(u, lbar, bbar, c, c_reverse, backend=backend, chunk_size=8), expected)


def test_gradients_of_both_directions():
    leaves = [x.requires_grad_() for x in (*random_case(6, batch=2, channels=2)[:4], torch.randn(2, 2, 2).double())]
    assert torch.autograd.gradcheck(siso_bidirectional, leaves)


@pytest.mark.parametrize("backend", SISO_BACKENDS)
def test_the_state_is_held_over_pads_to_the_right(backend):
    u, *system, state = random_case(70)
    lengths = torch.tensor([0, 33, 70])
    y, final = siso_ssm(u, *system, initial_state=state, lengths=lengths, return_state=True, backend=backend)
    assert_close(y, siso_ssm(u, *system, initial_state=state, backend=backend)[0])
    for row, length in enumerate(lengths.tolist()):
        short, first = u[row : row + 1, :length], state[row : row + 1]
        _, expected = siso_ssm(short, *system, initial_state=first, return_state=True, backend=backend)
        assert_close(final[row], expected[0])
    spoiled = u.clone()
    spoiled[1, 33:] = torch.inf
    assert_close(final_state(spoiled, *system[:2], state, lengths), final)


def test_what_a_state_adds_is_the_output_without_input():
    u, lbar, bbar, c, state = random_case(40)
    expected, last = siso_ssm(0 * u, lbar, bbar, c, initial_state=state, return_state=True, backend="reference")
    assert_close(state_response(lbar, c, state, 40), expected)
    assert_close(final_state(0 * u, lbar, bbar, state), last)


@pytest.mark.parametrize("backend", SISO_BACKENDS)
@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_empty_input(shape, backend):
    system = random_system(dtype=torch.float32)
    u, state = torch.randn(shape), torch.randn(shape[0], 3, 2, 2)
    y, final = siso_ssm(u, *system, initial_state=state, return_state=True, backend=backend)
    assert y.shape == shape and torch.equal(final, state)
    assert siso_bidirectional(u, *system, system[2], backend=backend).shape == shape


@pytest.mark.parametrize("backend", SISO_BACKENDS)
def test_half_precision_and_autocast_are_computed_in_float32(backend):
    u, *system, _ = random_case(65, dtype=torch.float32)
    exact, last = siso_ssm(u.bfloat16().double(), *(x.double() for x in system), return_state=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, final = siso_ssm(u.bfloat16().requires_grad_(), *system, return_state=True, backend=backend)
        y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and final.dtype == torch.float32
    assert_close(y.double(), exact, rtol=4e-3, atol=1e-5)
    assert_close(final.double(), last, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", FAST)
def test_nan_in_the_input_is_not_hidden(backend):
    u, *system, _ = random_case(20)
    u[1, 5, 2] = torch.nan
    y, _ = siso_ssm(u, *system, backend=backend)
    assert y[1, 5:, 2].isnan().all() and not y[[0, 2]].isnan().any() and not y[1, :, :2].isnan().any()


@pytest.mark.parametrize("backend", SISO_BACKENDS)
def test_shapes_on_the_meta_device(backend):
    u, *system, state = (x.to("meta") for x in random_case(20, dtype=torch.float32))
    y, final = siso_ssm(u, *system, initial_state=state, return_state=True, backend=backend)
    assert (y.device.type, y.shape, final.shape) == ("meta", u.shape, state.shape)


@pytest.mark.parametrize("backend", FAST)
def test_nothing_but_the_input_is_kept_for_the_backward_pass(backend):
    u, *system, _ = random_case(4096, batch=4, channels=8, dtype=torch.float32)
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        siso_ssm(u.requires_grad_(), *(x.requires_grad_() for x in system), backend=backend)
    tables = 2**20  # kernels, powers and chunk tables of 8 channels
    assert u.nbytes <= sum(kept.values()) < u.nbytes + tables


def test_the_convolution_does_not_wrap_around():
    u, kernel, other = torch.randn(2, 11, 3).double(), torch.randn(3, 30).double(), torch.randn(3, 4).double()
    expected = torch.zeros_like(u)
    for t, s in itertools.product(range(11), repeat=2):
        if s <= t:
            expected[:, t] += kernel[:, t - s] * u[:, s]
        elif s - t - 1 < 4:
            expected[:, t] += other[:, s - t - 1] * u[:, s]
    assert_close(fft_convolution.fft_convolution(u, kernel, other), expected)
    causal = fft_convolution.fft_convolution(u, kernel)
    changed = u.clone()
    changed[:, 7:] += 1
    assert_close(fft_convolution.fft_convolution(changed, kernel)[:, :7], causal[:, :7])


def test_fast_lengths_are_the_smallest_even_products_of_2_3_5():
    def smooth(n):
        for prime in (2, 3, 5):
            while n % prime == 0:
                n //= prime
        return n == 1

    numbers = [n for n in range(2, 1300, 2) if smooth(n)]
    assert [fast_length(n) for n in range(1, 1200)] == [min(m for m in numbers if m >= n) for n in range(1, 1200)]
    assert fast_length(2 * 10**6 + 1) < 2.03 * 10**6


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
def test_it_compiles_without_a_break_in_the_graph(backend):
    u, *system, _ = random_case(50, dtype=torch.float32)

    def run(u):
        return siso_ssm(u, *system, return_state=True, backend=backend)[0] + siso_bidirectional(
            u, *system, system[2], backend=backend
        )

    found = []
    for function in (run, torch.compile(run, backend="aot_eager", fullgraph=True)):
        leaf = u.clone().requires_grad_()
        y = function(leaf)
        found.append((y.detach(), torch.autograd.grad(y.square().sum(), leaf)[0]))
    for eager, compiled in zip(*found, strict=True):
        assert_close(compiled, eager)


@pytest.mark.slow
def test_cost_is_linear_in_the_length():
    """Floating point operations of the matrix products of both passes."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for length in (1 << 15, 1 << 16):
        u, *system, _ = random_case(length, batch=1, channels=1, dtype=torch.float32)
        with FlopCounterMode(display=False) as counter:
            siso_ssm(u.requires_grad_(), *system, return_state=True, backend="chunk")[0].sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.ones(2, 5)}, r"`u` must be a real floating tensor of shape \(batch, length, features >= 1\)"),
        ({"u": torch.ones(2, 5, 3, dtype=torch.complex64)}, "`u` must be a real floating tensor"),
        ({"lbar": torch.ones(4, 2, 2)}, r"`lbar` must have shape .* = \(3, 2, 2\), got \(4, 2, 2\)"),
        (
            {"lbar": torch.ones(3, 2, dtype=torch.complex64)},
            "`lbar` must be a real floating tensor, complex numbers as",
        ),
        ({"bbar": torch.ones(3, 1, 2)}, r"`bbar` must have shape .* = \(3, 2, 2\), got \(3, 1, 2\)"),
        ({"c": torch.ones(3, 2)}, r"`c` must have shape .* = \(3, 2, 2\), got \(3, 2\)"),
        ({"initial_state": torch.ones(1, 3, 2, 2)}, r"`initial_state` must have shape .* = \(2, 3, 2, 2\), got \(1,"),
        ({"lengths": torch.ones(2)}, r"`lengths` must be integers of shape \(batch,\) = \(2,\), got torch.float32"),
        ({"backend": "cuda"}, "`backend` must be one of auto, chunk, fft, reference, got 'cuda'"),
        ({"chunk_size": 0}, "`chunk_size` must be an integer of at least 1, or None, got 0"),
    ],
)
def test_bad_input_is_named(change, message):
    lbar, bbar, c = random_system(dtype=torch.float32)
    arguments = {"u": torch.ones(2, 5, 3), "lbar": lbar, "bbar": bbar, "c": c}
    with pytest.raises(ValueError, match=message):
        siso_ssm(**{**arguments, **change})


def test_bad_kernels_are_named():
    with pytest.raises(ValueError, match=r"`kernel` must have shape \(3, taps\), got \(2, 4\)"):
        fft_convolution.fft_convolution(torch.ones(1, 4, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"`anticausal` must have shape \(3, taps\), got \(3, 0\)"):
        fft_convolution.fft_convolution(torch.ones(1, 4, 3), torch.ones(3, 4), torch.ones(3, 0))
    assert diagonal_kernel(*random_system()[:2], 4).shape == (3, 4)
