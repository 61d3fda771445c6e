# SPDX-License-Identifier: Apache-2.0
"""Steps during the backward pass: the same result, no gradients left, and an error for whatever would need them."""

import copy

import pytest
import torch
from torch import nn

from eigenhub.optim import AuON, DCTAdamW, DCTAdamWFactory, Trion, step_in_backward
from tests.common.optimizer_training import make_trainer


def make_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 8))
    model[4].weight = model[0].weight  # a weight that is used twice gets one gradient
    return model


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    return model(torch.randn(5, 12, generator=torch.Generator().manual_seed(step))).square().sum()


def waiting() -> tuple[nn.Module, DCTAdamW]:
    """A model after its backward pass and before `step()`."""
    model = make_model()
    optimizer = DCTAdamW(model.parameters(), rank=3)
    step_in_backward(optimizer)
    loss_of(model, 0).backward()
    return model, optimizer


@pytest.mark.parametrize("optimizer", [AuON, DCTAdamW, Trion])
def test_it_is_the_same_training_without_gradients(optimizer):
    model = make_model()
    groups = [{"params": [p], "weight_decay": 0.1} for p in model.parameters()]
    fast = optimizer(groups, lr=0.01)
    other = copy.deepcopy(model)
    usual = optimizer([{"params": [p], "weight_decay": 0.1} for p in other.parameters()], lr=0.01)
    step_in_backward(fast)
    schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 4) for o in (fast, usual)]
    for step in range(4):
        for each, own, schedule in ((model, fast, schedules[0]), (other, usual, schedules[1])):
            own.zero_grad()
            loss_of(each, step).backward()
            own.step()
            schedule.step()
        assert all(p.grad is None for p in model.parameters())
    assert all(a.equal(b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    saved = fast.state_dict()["state"]
    assert len(saved) == len(groups)


def test_one_gradient_exists_at_a_time():
    model = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(4)))
    optimizer = DCTAdamW(model.parameters(), rank=2)
    seen = []
    for layer in model:  # called before those of the mode, which come later
        layer.weight.register_post_accumulate_grad_hook(
            lambda _: seen.append(sum(type(p.grad) is torch.Tensor for p in model.parameters()))
        )
    step_in_backward(optimizer)
    model(torch.randn(3, 6)).square().sum().backward()
    assert seen == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "use",
    [
        lambda model, optimizer: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
        lambda model, optimizer: nn.utils.clip_grad_value_(model.parameters(), 1.0),
        lambda model, optimizer: loss_of(model, 1).backward(),
        lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
    ],
    ids=["norm", "value", "accumulation", "zeros"],
)
def test_what_needs_all_gradients_is_refused(use):
    model, optimizer = waiting()
    with pytest.raises(RuntimeError, match="used and freed during the backward pass"):
        use(model, optimizer)


def test_a_gradient_scaler_and_a_closure_are_refused():
    model, optimizer = waiting()
    optimizer.step()
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model, 1)).backward()
    with pytest.raises(RuntimeError, match="no GradScaler"):
        scaler.step(optimizer)
    with pytest.raises(ValueError, match="`closure` cannot"):
        optimizer.step(lambda: 0.0)


def test_several_processes_are_refused(monkeypatch):
    model, optimizer = waiting()
    optimizer.step()
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(RuntimeError, match="before the processes have added theirs up"):
        loss_of(model, 1).backward()


def test_removed_hooks_end_the_mode():
    model = make_model()
    optimizer = DCTAdamW(model.parameters(), rank=3)
    for handle in step_in_backward(optimizer):
        handle.remove()
    before = model[0].weight.detach().clone()
    loss_of(model, 0).backward()
    assert model[0].weight.equal(before) and model[0].weight.grad.norm() > 0
    optimizer.step()
    assert not model[0].weight.equal(before)


def test_trainer_is_told_why_not(tmp_path):
    """It measures the norm of all gradients in every step, also where it does not clip."""
    trainer = make_trainer(tmp_path, DCTAdamWFactory, {"lr": 3e-3}, torch.float32, max_grad_norm=0.0)
    trainer.create_optimizer()
    step_in_backward(trainer.optimizer)
    with pytest.raises(RuntimeError, match="which `Trainer` does in every step"):
        trainer.train()
