# SPDX-License-Identifier: Apache-2.0
"""Norms, dropout, pooling, precision, padding: the parts by themselves."""

import logging

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eigenhub.models.state_space.dropout import SequenceDropout
from eigenhub.models.state_space.normalization import MaskedBatchNorm, make_norm
from eigenhub.models.state_space.padding import check_mask, inside_spans, real_spans, roll_rows
from eigenhub.models.state_space.pooling import pool_sequence
from eigenhub.models.state_space.precision import Float32Parameters
from eigenhub.models.state_space.timing import step_deltas


def batch_norm(features=4, momentum=0.9):
    norm = MaskedBatchNorm(features, momentum)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    nn.init.zeros_(norm.running_mean)
    nn.init.ones_(norm.running_var)
    return norm


def test_batch_norm_is_torchs_but_for_the_bias_of_the_variance():
    ours, theirs = batch_norm(), nn.BatchNorm1d(4, momentum=0.1)
    theirs.load_state_dict(ours.state_dict() | {"num_batches_tracked": torch.tensor(0)})
    x = torch.randn(3, 7, 4, requires_grad=True)
    expected = theirs(x.mT).mT
    found = ours(x)
    assert_close(found, expected)
    assert_close(ours.running_mean, theirs.running_mean)
    biased = 0.9 + 0.1 * x.detach().flatten(0, 1).var(0, unbiased=False)
    assert_close(ours.running_var, biased)
    weights = torch.randn(3, 7, 4)
    grads = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected)]
    assert_close(*grads)
    x = x.detach()
    scale = ours.weight / (ours.running_var + 1e-5).sqrt()
    assert_close(ours.eval()(x), (x - ours.running_mean) * scale + ours.bias)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_does_not_see_pads(training):
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]]).bool()
    x = torch.randn(2, 5, 4)
    ours, packed = batch_norm().train(training), batch_norm().train(training)
    packed.load_state_dict(ours.state_dict())
    expected = packed(x[mask][None])[0]
    x[~mask] = 1e6
    found = ours(x, mask)
    assert torch.equal(found[mask], expected)
    assert (found[~mask] == 0).all()
    assert torch.equal(ours.running_var, packed.running_var)
    assert torch.equal(ours(x, torch.ones(2, 5).bool()), ours(x))


def test_batch_norm_of_nothing_and_of_one_step(caplog):
    norm = batch_norm()
    assert norm(torch.zeros(0, 3, 4)).shape == (0, 3, 4)
    assert (norm(torch.ones(2, 3, 4), torch.zeros(2, 3).bool()) == 0).all()
    assert torch.equal(norm.running_mean, torch.zeros(4))
    with caplog.at_level(logging.WARNING):
        one = norm(torch.randn(1, 1, 4))
        norm(torch.randn(1, 1, 4))
    assert_close(one[0, 0], norm.bias.detach())
    assert torch.isfinite(norm.running_var).all()
    assert [record.message for record in caplog.records] == [
        "batch norm over a single step returns its bias: use a larger batch or `norm_type='layer'`"
    ]


def test_norms_by_name():
    x = torch.randn(2, 3, 4)
    layer = make_norm("layer", 4, 0.9)
    assert layer.eps == 1e-6
    assert_close(layer(x, torch.ones(2, 3).bool()), nn.functional.layer_norm(x, (4,), eps=1e-6))
    assert torch.equal(make_norm("none", 4, 0.9)(x), x)
    assert isinstance(make_norm("batch", 4, 0.9), MaskedBatchNorm)


def test_tied_dropout_has_one_mask_for_all_steps():
    x = torch.ones(50, 20, 8)
    dropped = SequenceDropout(0.25, tied=True)(x)
    assert (dropped == dropped[:, :1]).all()
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped[:, 0].ne(0).float().mean().item() == pytest.approx(0.75, abs=0.1)
    assert not torch.equal(dropped[0], dropped[1])
    free = SequenceDropout(0.25, tied=False)(x)
    assert (free != free[:, :1]).any()
    assert torch.equal(SequenceDropout(0.25, tied=True).eval()(x), x)


def test_pooling():
    x, mask = torch.randn(3, 4, 2), torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]])
    mean, last = (pool_sequence(x, mask, how) for how in ("mean", "last"))
    assert_close(mean, torch.stack([x[0, :2].mean(0), x[1, 1:].mean(0), torch.zeros(2)]))
    assert torch.equal(last, torch.stack([x[0, 1], x[1, 3], torch.zeros(2)]))
    assert_close(pool_sequence(x, None, "mean"), x.mean(1))
    assert torch.equal(pool_sequence(x, None, "last"), x[:, -1])
    for how in ("mean", "last"):
        assert torch.equal(pool_sequence(x[:, :0], None, how), torch.zeros(3, 2))


def test_spans_and_rolling():
    mask = torch.tensor([[0, 1, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]).bool()
    first, end = real_spans(mask)
    assert (first.tolist(), end.tolist()) == ([1, 0, 0], [4, 5, 0])
    assert inside_spans(mask).tolist() == [[False, True, True, True, False], [True] * 5, [False] * 5]
    x = torch.arange(30).view(3, 5, 2)
    rolled = roll_rows(x, first)
    assert torch.equal(rolled[0], x[0].roll(-1, 0))
    assert torch.equal(roll_rows(rolled, -first), x)
    assert real_spans(mask[:, :0]).end.tolist() == [0, 0, 0]
    assert roll_rows(x[:, :0], first).shape == (3, 0, 2)


def test_masks():
    assert check_mask(None, 2, 3, False) is None
    assert check_mask(torch.ones(2, 3), 2, 3, False) is None  # nothing to mask
    assert check_mask(torch.tensor([[0.0, 1, 1]]), 1, 3, False).tolist() == [[False, True, True]]
    assert check_mask(torch.tensor([[0, 0, 1, 0, 1]]), 1, 2, True).tolist() == [[False, True]]
    with pytest.raises(ValueError, match=r"= \(1, 2\) or longer, got \(1, 1\)"):
        check_mask(torch.ones(1, 1), 1, 2, True)


def test_time_gaps():
    times = torch.tensor([[9.0, 1.0, 1.5, 4.0, 7.0]])
    mask = torch.tensor([[0, 1, 1, 1, 0]]).bool()
    assert step_deltas(None, times, mask, (1, 5), False).tolist() == [[0.0, 1.0, 0.5, 2.5, 0.0]]
    assert step_deltas(None, times[:, 1:], None, (1, 4), False).tolist() == [[1.0, 0.5, 2.5, 3.0]]
    assert step_deltas(torch.tensor([[2, 3]]), None, None, (1, 2), True).tolist() == [[2.0, 3.0]]
    for keywords, message in (
        ({"time_deltas": times, "timestamps": times}, "say the same twice"),
        ({"time_deltas": times[:, 1:]}, r"`time_deltas` must have shape \(batch, length\) = \(1, 5\), got \(1, 4\)"),
        ({"time_deltas": -times}, "`time_deltas` must not be negative, got a gap of -9"),
        ({"timestamps": times}, "`timestamps` must not descend, got a gap of -8"),
        ({"timestamps": times.sort().values, "continues": True}, "`timestamps` cannot continue a cache"),
    ):
        settings = {"time_deltas": None, "timestamps": None, "mask": None, "shape": (1, 5), "continues": False}
        with pytest.raises(ValueError, match=message):
            step_deltas(**(settings | keywords))


class Guarded(Float32Parameters):
    float32_names = ("kept",)

    def __init__(self):
        super().__init__()
        self.kept = nn.Parameter(torch.tensor(1.0 + 2**-20))
        self.other = nn.Parameter(torch.tensor(1.0 + 2**-20))


def test_guarded_parameters_follow_everything_but_a_cast_to_half():
    for cast in (lambda m: m.to(torch.bfloat16), lambda m: m.half(), lambda m: m.bfloat16()):
        module = cast(Guarded())
        assert module.kept.dtype == torch.float32 and module.kept.item() == 1.0 + 2**-20
        assert module.other.dtype != torch.float32
    assert Guarded().double().kept.dtype == torch.float64
    assert Guarded().to("meta").kept.device.type == "meta"
    assert Guarded().to("meta", torch.bfloat16).kept.dtype == torch.float32
