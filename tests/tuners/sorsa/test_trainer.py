# SPDX-License-Identifier: Apache-2.0
"""Under `Trainer`: the penalty has one strength, whatever the accumulation, the route and the way the loss is averaged."""

import json

import pytest
import torch
from peft import get_peft_model
from transformers import Trainer

from eigenhub.tuners.sorsa import (
    SorsaConfig,
    SorsaTrainer,
    SorsaTrainerMixin,
    apply_regularizer,
    sorsa_param_groups,
)
from tests.common.tuner_cases import move
from tests.support.models import tiny_bert
from tests.tuners.sorsa.helpers import adapted_llama, logits
from tests.tuners.sorsa.trainers import factors, rows, train, trainer, trainer_of_route


def assert_same_end(found: dict, expected: dict) -> None:
    assert found["penalty"] == pytest.approx(expected["penalty"], rel=1e-4)
    assert found["factors"] == pytest.approx(expected["factors"], rel=2e-5, abs=2e-5)


def test_penalty_does_not_depend_on_accumulation_or_route(tmp_path):
    expected = train("callback", tmp_path)
    without = train("none", tmp_path)
    assert without["penalty"] > 1.05 * expected["penalty"], "the case cannot tell strengths apart"
    for route in ("callback", "trainer"):
        for accumulation in (1, 2, 4):
            assert_same_end(train(route, tmp_path, accumulation), expected)


def test_trainer_callback_and_raw_loop_agree(tmp_path):
    """The same two SGD steps on one batch of all samples."""
    data = rows(8)
    raw = adapted_llama(moved=True, reg_weight=2.0).train()
    optimizer = torch.optim.SGD(sorsa_param_groups(raw, 0.05))
    batch = {name: torch.tensor([row[name] for row in data]) for name in data[0]}
    for _ in range(2):
        raw(**batch).loss.backward()
        apply_regularizer(raw)
        optimizer.step()
        optimizer.zero_grad()
    expected = {"penalty": raw.regularization_loss().item(), "factors": factors(raw)}
    for route in ("callback", "trainer"):
        assert_same_end(train(route, tmp_path, train_dataset=data), expected)


@pytest.mark.parametrize("route", ["callback", "trainer"])
def test_an_incomplete_last_window(tmp_path, route):
    """20 samples in windows of 4 x 2: the last step of the epoch has fewer micro-batches."""

    def end(accumulation: int) -> dict:
        model = adapted_llama(moved=True, reg_weight=2.0)
        run = trainer_of_route(
            model, tmp_path, route, per_device_train_batch_size=8 // accumulation, max_steps=-1, num_train_epochs=1,
            gradient_accumulation_steps=accumulation, train_dataset=rows(20),
        )  # fmt: skip
        run.train()
        assert run.state.global_step == 3
        return {"penalty": model.regularization_loss().item(), "factors": factors(model)}

    assert_same_end(end(4), end(1))


def classifier():
    model = get_peft_model(tiny_bert(), SorsaConfig(r=2, target_modules=["query"], reg_weight=2.0))
    move(model, "sorsa_")
    return model


@pytest.mark.parametrize("kind", ["model_without_kwargs", "compute_loss_func", "label_smoothing"])
def test_other_normalisations_of_the_loss(tmp_path, kind):
    """Models that do not take `num_items_in_batch`, and losses given to Trainer."""
    data = [{"input_ids": row["input_ids"], "labels": row["input_ids"][0] % 2} for row in rows()]

    def loss_function(outputs, labels, num_items_in_batch=None):
        total = torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def end(route: str, accumulation: int) -> float:
        model = classifier()
        if kind == "model_without_kwargs":
            model.get_base_model().accepts_loss_kwargs = False
            model.accepts_loss_kwargs = False
        run = trainer_of_route(
            model, tmp_path, route, train_dataset=data, per_device_train_batch_size=8 // accumulation,
            gradient_accumulation_steps=accumulation, label_names=["labels"],
            label_smoothing_factor=0.1 if kind == "label_smoothing" else 0.0,
        )  # fmt: skip
        if kind == "compute_loss_func":
            run.compute_loss_func = loss_function
        run.train()
        return model.regularization_loss().item()

    expected = end("callback", 1)
    assert end("none", 1) > 1.05 * expected
    for route in ("callback", "trainer"):
        for accumulation in (1, 4):
            assert end(route, accumulation) == pytest.approx(expected, rel=1e-4), (route, accumulation)


def test_evaluation_and_prediction_losses_are_those_of_the_task(tmp_path):
    for route in ("trainer", "callback"):
        model = adapted_llama(moved=True, reg_weight=100.0)
        plain = trainer(model, tmp_path, eval_dataset=rows(8)).evaluate()["eval_loss"]
        run = trainer_of_route(model, tmp_path, route, eval_dataset=rows(8))
        assert run.evaluate()["eval_loss"] == pytest.approx(plain, abs=0)
        assert run.predict(rows(8)).metrics["test_loss"] == pytest.approx(plain, abs=0)


def test_loss_route_reports_the_sum(tmp_path):
    losses = {}
    for route in ("trainer", "none"):
        model = adapted_llama(moved=True, reg_weight=10.0)
        penalty = 10.0 * model.regularization_loss().item()
        run = trainer_of_route(model, tmp_path, route, max_steps=1, logging_steps=1, gradient_accumulation_steps=2)
        run.train()
        losses[route] = run.state.log_history[0]["loss"]
    assert losses["trainer"] - losses["none"] == pytest.approx(penalty, rel=1e-3)


def test_the_loss_route_clips_the_sum_and_the_callback_does_not(tmp_path):
    """As documented: the callback adds after clipping, so a strong penalty is not clipped there."""
    settings = {"reg_weight": 1000.0}
    ends = {}
    for route in ("trainer", "callback"):
        model = adapted_llama(moved=True, **settings)
        before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        trainer_of_route(model, tmp_path, route, max_steps=1, max_grad_norm=1.0).train()
        after = [p for p in model.parameters() if p.requires_grad]
        step = torch.stack([(a - b).norm() for a, b in zip(after, before, strict=True)]).norm()
        ends[route] = step.item() / 0.05
    assert ends["trainer"] == pytest.approx(1.0, rel=1e-2) and ends["callback"] > 50


def test_mixin_under_another_trainer_and_return_outputs(tmp_path):
    class Counting(Trainer):
        calls = 0

        def compute_loss(self, *args, **kwargs):
            type(self).calls += 1
            return super().compute_loss(*args, **kwargs)

    class Mixed(SorsaTrainerMixin, Counting):
        pass

    model = adapted_llama(moved=True)
    run = trainer(model, tmp_path, Mixed)
    run.train()
    assert Mixed.calls == 2
    batch = run.data_collator(rows(2))
    model.train()
    loss, outputs = run.compute_loss(model, batch, return_outputs=True)
    assert loss.item() - outputs.loss.item() == pytest.approx(0.2 * model.regularization_loss().item(), rel=1e-4)


@pytest.mark.parametrize("route", ["callback", "trainer"])
@pytest.mark.parametrize("save_init", [True, False])
def test_resume_is_bit_exact(tmp_path, route, save_init):
    def run(name: str, **keywords):
        model = adapted_llama(reg_weight=2.0, save_init=save_init)
        settings = {"optim": "adamw_torch", "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
        this = trainer_of_route(model, tmp_path / name, route, **settings)
        this.train(**keywords)
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    straight = run("straight")
    resumed = run("resumed", resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-2"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in straight.items())
    state = json.loads((tmp_path / "resumed" / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["global_step"] == 4 and "sorsa_regularizer" not in state


def test_load_best_model_at_end(tmp_path):
    model = adapted_llama()
    run = trainer(
        model, tmp_path, SorsaTrainer, max_steps=4, save_strategy="steps", save_steps=1, eval_strategy="steps",
        eval_steps=1, load_best_model_at_end=True, eval_dataset=rows(8), learning_rate=1.0,
    )  # fmt: skip
    run.train()
    best = torch.tensor([entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry]).min().item()
    assert run.evaluate()["eval_loss"] == pytest.approx(best, rel=1e-5)
    assert torch.isfinite(logits(model)).all()
