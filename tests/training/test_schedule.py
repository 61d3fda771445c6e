# SPDX-License-Identifier: Apache-2.0
"""Rates at the corners of every schedule, and after a restored state."""

import pytest
import torch
from torch.optim import SGD
from transformers import get_cosine_schedule_with_warmup

from eigenhub.training.schedule import lr_schedule


def rates(shape: str, warmup: float, num_steps: int, floor: float = 0.0) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = lr_schedule(optimizer, shape, warmup, num_steps, floor)
    found = []
    for _ in range(num_steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return [*found, scheduler.get_last_lr()[0]]


def test_corners() -> None:
    linear = rates("linear", 4, 24, floor=0.1)
    assert linear[:5] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert linear[14] == pytest.approx(2 * 0.55)
    assert linear[-1] == pytest.approx(0.2)
    cosine = rates("cosine", 4, 24, floor=0.1)
    assert (cosine[4], cosine[14], cosine[-1]) == pytest.approx((2.0, 1.1, 0.2))
    assert rates("constant", 4, 24) == [2.0] * 25
    assert rates("constant_with_warmup", 4, 24)[3:] == [1.5] + [2.0] * 21


def test_share_of_warmup_and_agreement_with_transformers() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    reference = get_cosine_schedule_with_warmup(optimizer, 3, 20)
    expected = []
    for _ in range(20):
        expected.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    assert rates("cosine", 0.15, 20)[:-1] == pytest.approx(expected)


def test_state_continues() -> None:
    straight = rates("cosine", 0.1, 10, floor=0.1)
    optimizers = [SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0) for _ in range(2)]
    first, second = (lr_schedule(optimizer, "cosine", 0.1, 10, 0.1) for optimizer in optimizers)
    for _ in range(6):
        optimizers[0].step()
        first.step()
    second.load_state_dict(first.state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    assert optimizers[1].param_groups[0]["lr"] == straight[6]
    optimizers[1].step()
    second.step()
    assert second.get_last_lr()[0] == straight[7]


def test_wrong_values_are_named() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="linear, cosine.*'step'"):
        lr_schedule(optimizer, "step", 0, 10)
    with pytest.raises(ValueError, match="floor.*1.5"):
        lr_schedule(optimizer, "linear", 0, 10, 1.5)
