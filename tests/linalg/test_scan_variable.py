# SPDX-License-Identifier: Apache-2.0
"""Scans whose steps take different times."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from eigenhub.linalg.discretization import discretize
from eigenhub.linalg.scan import diagonal_ssm, reversed_deltas, variable_ssm, variable_ssm_reference
from tests.linalg.scan_cases import LENGTHS, WEIGHT, assert_same, values_and_gradients


TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
METHODS = ["zoh", "bilinear"]


def irregular(batch, length, dtype=torch.float64, features=5, states=4):
    """`u, deltas, eigenvalues, step, b, c, d, initial_state`, all with gradients; a third of the deltas are zero."""
    deltas = 3 * torch.rand(batch, length) * (torch.rand(batch, length) > 0.3)
    eigenvalues = torch.stack([-torch.rand(states), 20 * torch.randn(states)], dim=-1)
    maps = [torch.randn(s) for s in [(states, features, 2), (features, states, 2), (features,), (batch, states, 2)]]
    tensors = [torch.randn(batch, length, features), deltas, eigenvalues, 0.1 * torch.rand(states), *maps]
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def compare(batch, length, dtype, **options):
    tensors = irregular(batch, length, dtype)
    upstream = [torch.randn(batch, length, 5), torch.randn(batch, 4, 2), torch.randn(batch, length, 4, 2)]
    options |= {"state_weight": WEIGHT.to(dtype), "return_states": True}

    def run(function):
        call = lambda *args: function(*args[:7], initial_state=args[7], **options)  # noqa: E731
        return values_and_gradients(call, tensors, upstream)

    assert_same(run(variable_ssm), run(variable_ssm_reference), TOLERANCE[dtype])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_it_is_the_loop(nan_empty, dtype, reverse, method):
    for length in [1, 20, 101] if dtype == torch.float32 else LENGTHS:
        compare(2, length, dtype, reverse=reverse, method=method)


@pytest.mark.parametrize("reverse", [False, True])
def test_blocks_change_nothing(monkeypatch, reverse):
    monkeypatch.setattr("eigenhub.linalg.scan_variable.BLOCK", 16 * 23)
    compare(2, 101, torch.float64, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 16, 17, 18, 101])
def test_chunks_side_by_side_change_nothing(nan_empty, monkeypatch, length, reverse):
    """What accelerators do."""
    monkeypatch.setattr("eigenhub.linalg.scan_affine.ONE_CHUNK_ON", ())
    compare(2, length, torch.float64, reverse=reverse)


@pytest.mark.parametrize("method", METHODS)
def test_gradcheck(method):
    tensors = irregular(2, 3, features=2, states=2)
    assert torch.autograd.gradcheck(
        lambda *args: variable_ssm(*args[:7], initial_state=args[7], method=method), tensors
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_no_time_holds_the_state_exactly(method, dtype):
    u, deltas, *maps, state = (t.detach() for t in irregular(3, 50, dtype))
    deltas[:, 20:45], deltas[:, 45] = 0, 1
    _, _, states = variable_ssm(u, deltas, *maps, initial_state=state, method=method, return_states=True)
    assert torch.equal(states[:, 20:45], states[:, 19:20].expand(-1, 25, -1, -1))
    assert not torch.equal(states[:, 45], states[:, 44])
    _, final = variable_ssm(u, torch.zeros_like(deltas), *maps, initial_state=state, method=method)
    assert torch.equal(final, state)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reverse", [False, True])
def test_even_times_are_the_time_invariant_scan(reverse, method):
    u, _, eigenvalues, step, b, c, d, state = (t.detach() for t in irregular(2, 60))
    real, imag, gain_re, gain_im = discretize(eigenvalues[:, 0], eigenvalues[:, 1], step, method)
    gain, complex_b = torch.complex(gain_re, gain_im), torch.view_as_complex(b)
    bbar = torch.view_as_real(gain[:, None] * complex_b)
    options = {"initial_state": state, "reverse": reverse}
    expected = diagonal_ssm(u, torch.stack([real, imag], -1), bbar, c, d, **options)
    found = variable_ssm(u, torch.ones(2, 60), eigenvalues, step, b, c, d, method=method, **options)
    assert_same(found, expected, 1e-12)


def test_one_long_gap_is_many_short_ones_without_input():
    u, _, *maps, state = (t.detach() for t in irregular(1, 4))
    deltas, fine = torch.tensor([[1.0, 1.0, 1.0, 4.0]]), torch.ones(1, 7)
    u[:, 3] = 0
    spread = torch.cat([u[:, :3], torch.zeros(1, 4, 5, dtype=u.dtype)], dim=1)
    coarse = variable_ssm(u, deltas, *maps, initial_state=state)[1]
    assert_close(variable_ssm(spread, fine, *maps, initial_state=state)[1], coarse)


def test_an_eigenvalue_of_zero_integrates():
    u, deltas = torch.randn(1, 30, 1, dtype=torch.float64), torch.rand(1, 30, dtype=torch.float64)
    one = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    zero = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    y, _ = variable_ssm(u, deltas, zero, torch.ones(1, dtype=torch.float64), one, one)
    assert_close(y[..., 0], (deltas * u[..., 0]).cumsum(1))
    y.sum().backward()
    assert zero.grad.isfinite().all()


def test_gaps_after_a_step():
    deltas = torch.tensor([[1.0, 0.5, 2.0, 3.0], [1.0, 0.25, 9.0, 9.0]])
    assert reversed_deltas(deltas).tolist() == [[0.5, 2.0, 3.0, 1.0], [0.25, 9.0, 9.0, 1.0]]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    assert reversed_deltas(deltas, mask).tolist() == [[0.5, 2.0, 3.0, 1.0], [0.25, 1.0, 0.0, 0.0]]
    left = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0]])
    assert reversed_deltas(deltas, left).tolist() == [[0.0, 2.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("reverse", [False, True])
def test_pads_change_nothing(reverse):
    """A row that is padded to the right, with garbage there and gaps of zero, is the row alone."""
    u, deltas, *maps, state = (t.detach() for t in irregular(1, 40))
    mask = torch.arange(40)[None] < 29
    gaps = reversed_deltas(deltas, mask) if reverse else deltas * mask
    alone = reversed_deltas(deltas[:, :29]) if reverse else deltas[:, :29]
    y, final = variable_ssm(u, gaps, *maps, initial_state=state, reverse=reverse)
    expected, final_alone = variable_ssm(u[:, :29], alone, *maps, initial_state=state, reverse=reverse)
    assert_close(y[:, :29], expected)
    assert_close(final, final_alone)


def test_nan_is_not_hidden():
    u, deltas, *maps, _ = (t.detach() for t in irregular(2, 60))
    u[1, 30, 0], deltas[1, 30] = float("nan"), 1
    y, final = variable_ssm(u, deltas, *maps)
    assert y[1, 30:].isnan().all() and final[1].isnan().all()
    assert y[1, :30].isfinite().all() and y[0].isfinite().all()


def test_only_the_inputs_are_kept():
    """The backward pass makes the tables of a block again, so there is no tensor of batch x length x states."""
    tensors = irregular(2, 3000, torch.float32, features=3, states=16)
    saved = 0

    def pack(tensor):
        nonlocal saved
        saved += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        variable_ssm(*tensors[:7])
    assert saved < 2 * 2 * 3000 * 16


@pytest.mark.parametrize(("batch", "length"), [(2, 0), (0, 5)])
def test_nothing_in_nothing_out(batch, length):
    *tensors, state = irregular(batch, length)
    y, final, states = variable_ssm(*tensors, initial_state=state, return_states=True)
    assert y.shape == (batch, length, 5) and states.shape == (batch, length, 4, 2)
    assert_close(final, state)
    (y.sum() + final.sum()).backward()
    assert_close(state.grad, torch.ones_like(state))


def test_gradient_checkpointing_around_it_and_inference():
    tensors = irregular(2, 40)
    call = lambda *args: variable_ssm(*args[:7], initial_state=args[7])[0].sin().sum()  # noqa: E731
    expected = torch.autograd.grad(call(*tensors), tensors)
    checkpoint(call, *tensors, use_reentrant=False).backward()
    for tensor, gradient in zip(tensors, expected, strict=True):
        assert torch.equal(tensor.grad, gradient)
    with torch.inference_mode():
        found = call(*tensors)
    assert_close(found, call(*tensors))


BAD = {
    "u": [torch.zeros(2, 5)],
    "deltas": [torch.zeros(5), torch.zeros(2, 4), torch.zeros(2, 5).long()],
    "eigenvalues": [torch.zeros(4), torch.zeros(4, 3)],
    "step": [torch.zeros(()), torch.zeros(4, 1)],
    "b": [torch.zeros(3, 4, 2)],
    "c": [torch.zeros(4, 3, 2)],
    "d": [torch.zeros(4)],
    "initial_state": [torch.zeros(2, 4)],
    "state_weight": [torch.zeros(3)],
    "method": ["euler"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_arguments_are_named(name, value):
    good = {"u": torch.zeros(2, 5, 3), "deltas": torch.ones(2, 5), "eigenvalues": torch.zeros(4, 2)}
    good |= {"step": torch.ones(4), "b": torch.zeros(4, 3, 2), "c": torch.zeros(3, 4, 2)}
    variable_ssm(**good)
    with pytest.raises(ValueError, match=f"`{name}`"):
        variable_ssm(**{**good, name: value})
