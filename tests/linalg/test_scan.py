# SPDX-License-Identifier: Apache-2.0
"""The scan of a time-invariant system: every backend is the sequential loop, in value and gradient."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.linalg.scan import SCAN_BACKENDS, diagonal_ssm, diagonal_ssm_reference, ssm_step
from eigenhub.linalg.scan_blocks import Layout
from tests.linalg.scan_cases import LENGTHS, WEIGHT, assert_same, system, unit_disc, values_and_gradients


TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def compare(batch, length, dtype, lengths=None, **options):
    tensors = system(batch, length, dtype=dtype)
    shared = {"state_weight": WEIGHT.to(dtype), "lengths": lengths, "reverse": options.pop("reverse", False)}
    upstream = [torch.randn(batch, length, 5), torch.randn(batch, 4, 2), torch.randn(batch, length, 4, 2)]

    def run(function, **more):
        def call(*args):
            return function(*args[:5], initial_state=args[5], return_states=True, **shared, **more)

        return values_and_gradients(call, tensors, upstream)

    assert_same(run(diagonal_ssm, **options), run(diagonal_ssm_reference), TOLERANCE[dtype])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("backend", SCAN_BACKENDS)
def test_backends_equal_the_loop(backend, dtype, reverse):
    for length in [3, 40] if backend == "reference" else [1, 17, 101]:
        compare(3, length, dtype, backend=backend, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_fused_at_any_length(nan_empty, length, reverse):
    compare(2, length, torch.float64, reverse=reverse)
    compare(1, length, torch.float32, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 2, 5, 17, 64, 1000])
def test_fused_with_any_chunk(nan_empty, chunk_size, reverse):
    compare(3, 50, torch.float64, chunk_size=chunk_size, reverse=reverse)


@pytest.mark.parametrize("slice_size", [4, 12, 40, 400])
@pytest.mark.parametrize("reverse", [False, True])
def test_fused_with_any_cut_into_blocks(nan_empty, monkeypatch, slice_size, reverse):
    """From one chunk in a block to all sequences in one, with sequences left over."""
    monkeypatch.setattr("eigenhub.linalg.scan_blocks.SLICE", slice_size)
    compare(5, 39, torch.float64, chunk_size=4, reverse=reverse)


def test_blocks_cover_every_step_once():
    for batch, length, states in [(1, 1, 1), (5, 39, 3000), (7, 5000, 64), (300, 20, 64)]:
        layout = Layout.of(batch, length, states, 0, torch.device("cpu"))
        for backwards in (False, True):
            count = torch.zeros(batch, length)
            for block in layout.blocks(backwards):
                assert block.entering == block.has(length - 1 if backwards else 0)
                count[block.rows, block.steps] += 1
            assert (count == 1).all()


def test_gradcheck():
    options = {"state_weight": WEIGHT[:2].double(), "return_states": True, "chunk_size": 2}
    for length, reverse in [(5, False), (5, True), (1, False)]:
        tensors = system(2, length, features=2, states=2)

        def run(*args, reverse=reverse):
            return diagonal_ssm(*args[:5], initial_state=args[5], reverse=reverse, **options)

        assert torch.autograd.gradcheck(run, tensors)


@pytest.mark.parametrize("backend", ["fused", "associative", "reference"])
def test_lengths_hold_the_state_over_right_padding(backend):
    lengths = torch.tensor([0, 1, 17, 39, 40])
    compare(5, 40, torch.float64, lengths, backend=backend)
    u, *maps, state = system(5, 40)
    held = diagonal_ssm(u, *maps, initial_state=state, lengths=lengths, backend=backend)[1]
    for row, length in enumerate(lengths.tolist()):
        alone = diagonal_ssm(u[row : row + 1, :length], *maps, initial_state=state[row : row + 1])[1]
        assert_close(held[row : row + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_on_either_side_changes_nothing(reverse):
    """Zeros as input at the pads are enough for the outputs, in both directions."""
    u, *maps, _ = (t.detach() for t in system(2, 30))
    alone, final = diagonal_ssm(u, *maps, reverse=reverse)
    left, right = torch.zeros(2, 13, 5, dtype=u.dtype), torch.zeros(2, 8, 5, dtype=u.dtype)
    y, _ = diagonal_ssm(torch.cat([left, u, right], dim=1), *maps, reverse=reverse)
    assert_close(y[:, 13:43], alone, rtol=0, atol=1e-12)
    if not reverse:
        lengths = torch.tensor([43, 43])
        _, state = diagonal_ssm(torch.cat([left, u, right], dim=1), *maps, lengths=lengths)
        assert_close(state, final, rtol=0, atol=1e-12)


def test_states_carry_from_part_to_part_and_to_single_steps():
    u, *maps, state = system(2, 60)
    weight = WEIGHT.double()
    whole, final = diagonal_ssm(u, *maps, initial_state=state, state_weight=weight)
    parts = []
    for part in (u[:, :23], u[:, 23:24], u[:, 24:50]):
        y, state = diagonal_ssm(part, *maps, initial_state=state, state_weight=weight)
        parts.append(y)
    for k in range(50, 60):
        y, state = ssm_step(u[:, k], state, *maps, state_weight=weight)
        parts.append(y[:, None])
    assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)
    assert_close(state, final, rtol=0, atol=1e-12)


def test_two_directions_are_the_double_sum():
    """Both see the current step, as in S5: y_k = Re C1 sum_{j<=k} L^{k-j} B u_j + Re C2 sum_{j>=k} L^{j-k} B u_j."""
    u, lbar, bbar, c1, _, _ = (t.detach() for t in system(2, 20))
    c2 = torch.randn_like(c1)
    y = diagonal_ssm(u, lbar, bbar, c1)[0] + diagonal_ssm(u, lbar, bbar, c2, reverse=True)[0]
    diagonal, b, first, second = (torch.view_as_complex(t.contiguous()) for t in (lbar, bbar, c1, c2))
    expected = torch.zeros_like(u)
    for k in range(20):
        for j in range(20):
            drive = diagonal ** abs(k - j) * (u[:, j].to(b.dtype) @ b.mT)
            for c in [first] * (j <= k) + [second] * (j >= k):
                expected[:, k] += (drive @ c.mT).real
    assert_close(y, expected, rtol=0, atol=1e-11)


def test_conjugate_pairs_may_be_halved():
    """A weight of two on one of each pair and of one on a real state is the whole system, for a real system."""
    lbar, real = unit_disc(3), torch.tensor([[0.7, 0.0]], dtype=torch.float64)
    b, c = torch.randn(3, 4, 2, dtype=torch.float64), torch.randn(4, 3, 2, dtype=torch.float64)
    b_real, c_real = torch.randn(1, 4, 2, dtype=torch.float64), torch.randn(4, 1, 2, dtype=torch.float64)
    b_real[..., 1], c_real[..., 1] = 0, 0
    mirror = torch.tensor([1.0, -1.0], dtype=torch.float64)
    u = torch.randn(2, 30, 4, dtype=torch.float64)
    whole = torch.cat([lbar, lbar * mirror, real]), torch.cat([b, b * mirror, b_real])
    full = diagonal_ssm(u, *whole, torch.cat([c, c * mirror, c_real], dim=1))[0]
    weight = torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64)
    half = torch.cat([lbar, real]), torch.cat([b, b_real]), torch.cat([c, c_real], dim=1)
    assert_close(diagonal_ssm(u, *half, state_weight=weight)[0], full, rtol=0, atol=1e-12)


def test_powers_come_from_an_exact_diagonal():
    """Hundreds of radians a step: a float32 diagonal of full precision is off by 1e-5 where a float64 one is not."""
    angle = torch.linspace(100, 500, 8, dtype=torch.float64)
    exact = torch.stack([angle.cos(), angle.sin()], dim=-1) * (1 - 1e-5)
    u, b, c = torch.randn(1, 8192, 4), torch.randn(8, 4, 2), torch.randn(4, 8, 2)
    expected = diagonal_ssm_reference(u, exact, b, c)[0]

    def error(diagonal):
        return ((diagonal_ssm(u, diagonal, b, c)[0] - expected).abs().max() / expected.abs().max()).item()

    assert error(exact) < 2e-6
    assert error(exact.float()) > 10 * error(exact)


@pytest.mark.parametrize("reverse", [False, True])
def test_nan_is_not_hidden_and_does_not_spread_against_time(reverse):
    u, *maps, _ = (t.detach() for t in system(3, 60))
    u[1, 30, 0] = float("nan")
    y, final = diagonal_ssm(u, *maps, reverse=reverse)
    after, before = (slice(0, 31), slice(31, 60)) if reverse else (slice(30, 60), slice(0, 30))
    assert y[1, after].isnan().all() and final[1].isnan().all()
    assert y[1, before].isfinite().all() and y[[0, 2]].isfinite().all() and final[[0, 2]].isfinite().all()


@pytest.mark.parametrize("backend", SCAN_BACKENDS)
@pytest.mark.parametrize(("batch", "length"), [(2, 0), (0, 5), (0, 0)])
def test_nothing_in_nothing_out(backend, batch, length):
    tensors = system(batch, length)
    y, final, states = diagonal_ssm(
        *tensors[:5], initial_state=tensors[5], backend=backend, return_states=True, lengths=torch.zeros(batch).long()
    )
    assert y.shape == (batch, length, 5) and states.shape == (batch, length, 4, 2)
    assert_close(final, tensors[5])
    (y.sum() + final.sum()).backward()
    assert_close(tensors[5].grad, torch.ones(batch, 4, 2, dtype=torch.float64))


def test_inputs_of_any_layout():
    u, *maps, _ = (t.detach() for t in system(4, 30))
    expected = diagonal_ssm(u, *maps)[0]
    assert_close(diagonal_ssm(u.mT.contiguous().mT, *maps)[0], expected)
    wide = torch.randn(4, 60, 10, dtype=torch.float64)
    wide[:, ::2, ::2] = u
    assert_close(diagonal_ssm(wide[:, ::2, ::2], *maps)[0], expected)
    one = u[:1].expand(4, -1, -1).requires_grad_()
    diagonal_ssm(one, *maps)[0].sum().backward()  # an upstream gradient without strides
    assert_close(one.grad[0], one.grad[3])


BAD = {
    "u": [torch.zeros(2, 5), torch.zeros(2, 5, 3).long(), torch.zeros(2, 5, 0), "no tensor"],
    "lbar": [torch.zeros(4), torch.zeros(4, 3), torch.zeros(0, 2), torch.zeros(4, dtype=torch.complex64)],
    "bbar": [torch.zeros(4, 3), torch.zeros(3, 4, 2), torch.zeros(4, 3, dtype=torch.complex64)],
    "c": [torch.zeros(4, 3, 2), torch.zeros(3, 4)],
    "d": [torch.zeros(4), torch.zeros(3, 1)],
    "initial_state": [torch.zeros(2, 4), torch.zeros(1, 4, 2), torch.zeros(2, 4, dtype=torch.complex64)],
    "state_weight": [torch.zeros(3), torch.zeros(4).long()],
    "lengths": [torch.zeros(3).long(), torch.zeros(2), torch.zeros(2).bool(), [5, 5]],
    "backend": ["cuda", ""],
    "chunk_size": [0, -1, 2.5, True, "17"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_arguments_are_named(name, value):
    good = {
        "u": torch.zeros(2, 5, 3),
        "lbar": torch.zeros(4, 2),
        "bbar": torch.zeros(4, 3, 2),
        "c": torch.zeros(3, 4, 2),
    }
    diagonal_ssm(**good)
    with pytest.raises(ValueError, match=f"`{name}`"):
        diagonal_ssm(**{**good, name: value})


def test_lengths_from_the_right_are_refused():
    u, *maps, _ = system(2, 5)
    with pytest.raises(ValueError, match="`lengths`"):
        diagonal_ssm(u, *maps, lengths=torch.tensor([1, 2]), reverse=True)


@pytest.mark.parametrize(
    ("name", "value"), [("u", torch.zeros(2, 1, 3)), ("state", torch.zeros(2, 4)), ("c", torch.zeros(4, 3, 2))]
)
def test_bad_arguments_of_a_step_are_named(name, value):
    good = {"u": torch.zeros(2, 3), "state": torch.zeros(2, 4, 2), "lbar": torch.zeros(4, 2)}
    good |= {"bbar": torch.zeros(4, 3, 2), "c": torch.zeros(3, 4, 2)}
    ssm_step(**good)
    with pytest.raises(ValueError, match=f"`{name}`"):
        ssm_step(**{**good, name: value})
