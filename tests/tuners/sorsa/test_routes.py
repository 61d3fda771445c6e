# SPDX-License-Identifier: Apache-2.0
"""The ways in which the penalty enters training: what each adds, and that two at a time are refused."""

import copy
import warnings

import pytest
import torch
from accelerate import Accelerator
from peft import get_peft_model
from torch import nn

from eigenhub.tuners.sorsa import (
    SorsaConfig,
    SorsaRegularizerCallback,
    SorsaTrainer,
    apply_regularizer,
    lambda_from_gamma,
    orthonormality_penalty,
    sorsa_param_groups,
)
from eigenhub.tuners.sorsa.routes import claimed_route
from tests.common.tuner_cases import move
from tests.support.models import tiny_bert, tiny_llama
from tests.tuners.sorsa.helpers import IDS, adapted_llama, gradients, layers_of
from tests.tuners.sorsa.trainers import trainer


def task_loss(model: nn.Module) -> torch.Tensor:
    return model(IDS, labels=IDS).loss


def forward_penalty(model: nn.Module, **keywords) -> float:
    """What the forward route adds to the loss of a training step."""
    model.train()
    with_penalty = model(IDS, labels=IDS, **keywords).loss
    model.eval()
    return (with_penalty - task_loss(model)).item()


# ---------------------------------------------------------------- raw loops
def test_raw_loop_equals_penalty_in_the_loss():
    added, expected = adapted_llama(moved=True), adapted_llama(moved=True)
    task_loss(added).backward()
    apply_regularizer(added)
    (task_loss(expected) + 0.2 * expected.regularization_loss()).backward()
    torch.testing.assert_close(gradients(added), gradients(expected), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_accelerate_loop_does_not_depend_on_accumulation(accumulation):
    """The documented loop: clip, regularise, step, only when gradients are synchronised."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    model = adapted_llama(moved=True, reg_weight=5.0)
    expected = copy.deepcopy(model)
    optimizer = torch.optim.SGD(sorsa_param_groups(model, 0.1))
    model, optimizer = accelerator.prepare(model, optimizer)
    for _ in range(accumulation):
        with accelerator.accumulate(model):
            accelerator.backward(task_loss(model))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                apply_regularizer(model)
            optimizer.step()
            optimizer.zero_grad()
    task_loss(expected).backward()
    torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
    (5.0 * expected.regularization_loss()).backward()
    for found, reference in zip(model.parameters(), expected.parameters(), strict=True):
        step = 0.0 if reference.grad is None else 0.1 * reference.grad
        torch.testing.assert_close(found.detach(), reference.detach() - step, rtol=1e-5, atol=1e-6)


def test_frozen_factors_get_no_gradient():
    model = adapted_llama(moved=True)
    model.requires_grad_(False)
    layers_of(model)[0].sorsa_U["default"].requires_grad_(True)
    apply_regularizer(model)
    assert [name for name in gradients(model) if not name.endswith("layers.0.self_attn.q_proj.sorsa_U.default")] == []


# ---------------------------------------------------------------- inside forward
def test_forward_route_adds_in_training_only():
    model = adapted_llama(moved=True, reg_in_forward=True, reg_weight=0.7)
    assert forward_penalty(model) == pytest.approx(0.7 * model.regularization_loss().item(), rel=1e-4)
    plain = adapted_llama(moved=True)
    assert torch.equal(task_loss(model), task_loss(plain)), "the evaluation loss is that of the task"
    assert forward_penalty(plain) == 0.0
    model.train()
    assert model(IDS).loss is None
    with pytest.raises(ValueError, match="return_dict"):
        model(IDS, labels=IDS, return_dict=False)


def test_forward_route_counts_two_adapters_once_each():
    model = adapted_llama(moved=True, reg_in_forward=True)
    model.add_adapter("second", SorsaConfig(r=3, target_modules=["q_proj"], reg_in_forward=True))
    move(model, "sorsa_", "second", seed=2)
    assert forward_penalty(model) == pytest.approx(0.2 * model.regularization_loss("second").item(), rel=1e-4)
    model.base_model.set_adapter(["default", "second"])
    assert forward_penalty(model) == pytest.approx(0.2 * model.regularization_loss().item(), rel=1e-4)


def test_forward_route_leaves_other_adapters_alone():
    model = adapted_llama(moved=True, reg_in_forward=True)
    model.add_adapter("second", SorsaConfig(r=3, target_modules=["q_proj"]))
    move(model, "sorsa_", "second", seed=2)
    assert forward_penalty(model) == 0.0
    apply_regularizer(model)
    assert gradients(model)
    with pytest.raises(RuntimeError, match="reg_in_forward"):
        model.set_adapter("default")
        apply_regularizer(model)


def test_forward_route_is_silent_while_disabled_and_after_delete_and_unload():
    model = adapted_llama(moved=True, reg_in_forward=True)
    with model.disable_adapter():
        assert forward_penalty(model) == 0.0
    model.add_adapter("second", SorsaConfig(r=2, target_modules=["q_proj"]))
    model.delete_adapter("default")
    assert forward_penalty(model) == 0.0
    base = adapted_llama(moved=True, reg_in_forward=True).unload()
    assert not base._forward_hooks
    merged = adapted_llama(moved=True, reg_in_forward=True).merge_and_unload()
    assert forward_penalty(merged) == 0.0


def test_forward_route_warns_under_trainer_and_survives_copies():
    model = adapted_llama(moved=True, reg_in_forward=True)
    with pytest.warns(UserWarning, match="reg_in_forward=True. under Trainer"):
        forward_penalty(model, num_items_in_batch=torch.tensor(12))
    assert forward_penalty(copy.deepcopy(model)) == pytest.approx(forward_penalty(model), rel=1e-5)


def test_forward_route_of_an_adapter_added_by_transformers():
    model = tiny_llama()
    model.add_adapter(SorsaConfig(r=2, target_modules=["q_proj"], reg_in_forward=True))
    with torch.no_grad():
        for layer in layers_of(model):
            layer.sorsa_U["default"].mul_(2.0)
    assert forward_penalty(model) == pytest.approx(0.2 * orthonormality_penalty(model).item(), rel=1e-4)


# ---------------------------------------------------------------- exactly one
def test_each_pair_of_routes_is_refused(tmp_path):
    forward = adapted_llama(reg_in_forward=True)
    with pytest.raises(RuntimeError, match="(?s)reg_in_forward.*apply_regularizer.*twice"):
        apply_regularizer(forward)
    with pytest.raises(RuntimeError, match="(?s)reg_in_forward.*SorsaTrainer.*twice"):
        trainer(forward, tmp_path, SorsaTrainer).train()
    with pytest.raises(RuntimeError, match="(?s)reg_in_forward.*SorsaRegularizerCallback.*twice"):
        trainer(forward, tmp_path, callbacks=[SorsaRegularizerCallback()]).train()
    with pytest.raises(RuntimeError, match="(?s)SorsaTrainer.*SorsaRegularizerCallback.*twice"):
        trainer(adapted_llama(), tmp_path, SorsaTrainer, callbacks=[SorsaRegularizerCallback()]).train()
    with pytest.raises(RuntimeError, match="(?s)two .SorsaRegularizerCallback"):
        trainer(adapted_llama(), tmp_path, callbacks=[SorsaRegularizerCallback(), SorsaRegularizerCallback()]).train()
    model = adapted_llama()
    with claimed_route(model, "`SorsaTrainer`"), pytest.raises(RuntimeError, match="SorsaTrainer"):
        apply_regularizer(model)


def test_routes_are_free_again_after_training(tmp_path):
    model = adapted_llama()
    trainer(model, tmp_path, callbacks=[SorsaRegularizerCallback()]).train()
    apply_regularizer(model)
    trainer(model, tmp_path, SorsaTrainer).train()
    apply_regularizer(model)
    trainer(model, tmp_path, callbacks=[SorsaRegularizerCallback()]).train()


def test_an_interrupted_run_does_not_block_the_next(tmp_path):
    class Interrupt(SorsaRegularizerCallback):
        def on_step_end(self, *args, **kwargs):
            raise KeyboardInterrupt

    model = adapted_llama()
    with pytest.raises(KeyboardInterrupt):
        trainer(model, tmp_path, callbacks=[Interrupt()]).train()
    trainer(model, tmp_path, callbacks=[SorsaRegularizerCallback()]).train()
    failing = trainer(model, tmp_path, SorsaTrainer, train_dataset=[{"input_ids": [999, 4], "labels": [4, 4]}] * 4)
    with pytest.raises(IndexError):
        failing.train()
    apply_regularizer(model)


# ---------------------------------------------------------------- weight decay and parameter groups
def test_trainer_with_weight_decay(tmp_path):
    model = adapted_llama()
    for optimizer in ("adamw_torch", "sgd"):
        with pytest.raises(ValueError, match="(?s)weight_decay=0.1.*sorsa_param_groups"):
            trainer(model, tmp_path, callbacks=[SorsaRegularizerCallback()], weight_decay=0.1, optim=optimizer).train()
    decayed = trainer(model, tmp_path, callbacks=[SorsaRegularizerCallback()], weight_decay=0.0)
    decayed.train()
    kept = trainer(model, tmp_path, SorsaTrainer, weight_decay=0.1)
    kept.train()
    names = {id(p): name for name, p in model.named_parameters()}
    for group in kept.optimizer.param_groups:
        assert not group["weight_decay"] or not any(".sorsa_" in names[id(p)] for p in group["params"])
    given = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], weight_decay=0.1)
    with pytest.raises(ValueError, match="weight_decay=0.1"):
        trainer(model, tmp_path, callbacks=[SorsaRegularizerCallback()], optimizers=(given, None)).train()


def test_param_groups():
    model = get_peft_model(tiny_bert(), SorsaConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]))
    groups = sorsa_param_groups(model, lr=0.3, weight_decay=0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    held = [(group["weight_decay"], group["lr"], {names[id(p)] for p in group["params"]}) for group in groups]
    assert sorted(n for _, _, found in held for n in found) == sorted(
        name for name, p in model.named_parameters() if p.requires_grad
    )
    assert all(lr == 0.3 for _, lr, _ in held)
    for decay, _, found in held:
        assert (decay == 0.1) == all(name.endswith("classifier.modules_to_save.default.weight") for name in found)
    assert len(sorsa_param_groups(adapted_llama(), lr=0.1)) == 1
    frozen = adapted_llama().requires_grad_(False)
    with pytest.raises(ValueError, match="trainable"):
        sorsa_param_groups(frozen, lr=0.1)
    with pytest.raises(ValueError, match="SORSA"):
        sorsa_param_groups(tiny_llama(), lr=0.1)


def test_lambda_from_gamma():
    assert lambda_from_gamma(4e-4, 3e-5) == pytest.approx(13.3333, rel=1e-4)
    assert lambda_from_gamma(4e-4, 3e-5, grad_accum=64) == pytest.approx(0.208333, rel=1e-4)
    assert lambda_from_gamma(0.0, 3e-5) == 0.0
    for bad in ({"gamma": -1.0, "lr": 1e-3}, {"gamma": 1.0, "lr": 0.0}, {"gamma": 1.0, "lr": 1e-3, "grad_accum": 0}):
        with pytest.raises(ValueError, match="must"):
            lambda_from_gamma(**bad)


# ---------------------------------------------------------------- gradient scalers and DeepSpeed
class Scaled:
    """What accelerate's optimizer looks like under float16."""

    param_groups: list = []

    class scaler:  # noqa: N801
        @staticmethod
        def get_scale() -> float:
            return 8.0


@pytest.mark.parametrize(("max_grad_norm", "factor"), [(1.0, 1.0), (0.0, 8.0)])
def test_callback_under_a_gradient_scaler(tmp_path, max_grad_norm, factor):
    """Gradients are unscaled by clipping, and by nothing else before the step."""
    arguments = trainer(adapted_llama(), tmp_path, max_grad_norm=max_grad_norm).args
    found, expected = adapted_llama(moved=True), adapted_llama(moved=True)
    SorsaRegularizerCallback().on_pre_optimizer_step(arguments, None, None, model=found, optimizer=Scaled())
    apply_regularizer(expected, scale=factor)
    torch.testing.assert_close(gradients(found), gradients(expected), rtol=0, atol=0)


def test_callback_refuses_deepspeed(tmp_path):
    arguments = trainer(adapted_llama(), tmp_path).args
    arguments.deepspeed_plugin = object()
    with pytest.raises(RuntimeError, match="(?s)DeepSpeed.*SorsaTrainer"):
        SorsaRegularizerCallback().on_train_begin(arguments, None, None, model=adapted_llama(), optimizer=Scaled())


def test_apply_regularizer_refuses_what_deepspeed_owns(monkeypatch):
    model = adapted_llama()
    layers_of(model)[0].sorsa_U["default"].ds_id = 3
    with pytest.raises(RuntimeError, match="DeepSpeed"):
        apply_regularizer(model)

    class DeepSpeedEngine(nn.Module):  # stages 0 to 2 leave no mark on the parameters
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    with pytest.raises(RuntimeError, match="DeepSpeed"):
        apply_regularizer(DeepSpeedEngine(adapted_llama()))


def test_no_warnings_in_a_plain_loop():
    model = adapted_llama(moved=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task_loss(model).backward()
        apply_regularizer(model)
