# SPDX-License-Identifier: Apache-2.0
"""Changes of subspace against the dense formula; the limiter; the quantiser of the error feedback."""

import pytest
import torch
from torch.testing import assert_close

from eigenhub.optim.basis import basis_matrix
from eigenhub.optim.error_feedback import BLOCK, dequantize, quantize
from eigenhub.optim.subspace import adam_direction, limit_growth, moved_adam_direction, rotate, surviving_slots


def index_sets(width, rank, count):
    return torch.stack([torch.randperm(width)[:rank].sort().values for _ in range(count)])


@pytest.mark.parametrize("kind", ["dct2", "dct3"])
def test_rotation_is_the_dense_change_of_basis(kind):
    b = basis_matrix(kind, 12, torch.float64)
    old, new = index_sets(12, 5, 4), index_sets(12, 5, 4)
    state = torch.randn(4, 7, 5, dtype=torch.float64)
    slots, kept = surviving_slots(old, new, 12)
    for i in range(4):
        change = b[:, old[i]].mT @ b[:, new[i]]
        assert_close(change, change.round(), atol=1e-12, rtol=0)
        assert_close(rotate(state, slots, kept)[i], state[i] @ change.round())
        assert kept[i].sum() == len(set(old[i].tolist()) & set(new[i].tolist()))


def test_an_unchanged_set_keeps_and_a_new_one_forgets_everything():
    state = torch.randn(1, 3, 4)
    same, other = torch.tensor([[1, 3, 5, 7]]), torch.tensor([[0, 2, 4, 6]])
    assert rotate(state, *surviving_slots(same, same, 8)).equal(state)
    assert rotate(state, *surviving_slots(same, other, 8)).abs().max() == 0


def test_moving_and_stepping_at_once_is_moving_then_stepping():
    old, new = index_sets(9, 4, 2), index_sets(9, 4, 2)
    a, m, v = torch.randn(2, 5, 4), torch.randn(2, 5, 4), torch.rand(2, 5, 4)
    slots, kept = surviving_slots(old, new, 9)
    first, second = rotate(m, slots, kept), rotate(v, slots, kept)
    expected = adam_direction(a, first, second, torch.tensor(1e-4), 0.9, 0.99)
    before = m.clone()
    actual = moved_adam_direction(a, m, v, slots, kept, torch.tensor(1e-4), 0.9, 0.99)
    for x, y in zip(actual, (expected, first, second), strict=True):
        assert_close(x, y)
    assert m.equal(before)


def test_a_norm_grows_by_one_per_cent_at_most():
    previous = torch.tensor([0.0, 2.0, 2.0, 2.0])
    norm = torch.tensor([7.0, 100.0, 2.01, 0.5])
    divisor, after = limit_growth(norm, previous)
    assert_close(after, torch.tensor([7.0, 2.02, 2.01, 0.5]))  # no limit without a previous one
    assert_close(divisor, norm / after)


@pytest.mark.parametrize("width", [1, 5, BLOCK, BLOCK + 1, 1024])
def test_eight_bits_are_255_levels(width):
    x = torch.randn(20, width)
    codes, low, span = quantize(x)
    assert codes.dtype == torch.uint8 and codes.shape == x.shape
    assert low.shape == span.shape == (20, -(-width // BLOCK))
    back = dequantize(codes, low, span)
    assert (back - x).abs().max() <= 0.5001 * span.max() / 255
    if width >= BLOCK:
        assert (back - x).norm() / x.norm() < 0.01
        assert len(codes[:, :BLOCK].unique()) > 200


def test_constant_and_denormal_rows_are_exact_or_harmless():
    x = torch.stack([torch.full((300,), 3.7), torch.zeros(300), torch.full((300,), -1e-39)])
    assert dequantize(*quantize(x)).equal(x)
    tiny = torch.linspace(0, 1e-40, 300).unsqueeze(0)
    assert (dequantize(*quantize(tiny)) - tiny).abs().max() <= 1e-40
    huge = torch.tensor([[-1e38, 0.0, 1e38]])
    assert_close(dequantize(*quantize(huge)), huge, rtol=1e-2, atol=1e36)
    assert quantize(torch.zeros(0, 7))[0].shape == (0, 7)


def test_quantised_rows_do_not_depend_on_their_neighbours():
    x = torch.randn(8, 300)
    whole = dequantize(*quantize(x))
    assert torch.cat([dequantize(*quantize(part)) for part in x.split(3)]).equal(whole)
