# SPDX-License-Identifier: Apache-2.0
"""An optimizer under `Trainer` and accelerate: a factory makes it, schedules drive it, runs resume to the bit."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import Trainer, TrainingArguments

from tests.support.data import counting_rows
from tests.support.models import tiny_llama


STEPS = 6
LR_AUX = 1e-3


def rows() -> list[dict[str, Tensor]]:
    return [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in counting_rows(24)]


def make_trainer(folder: Path, factory: type, options: dict[str, Any], dtype: torch.dtype, **settings: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=4, save_steps=STEPS // 2, logging_steps=2,
        lr_scheduler_type="cosine", use_cpu=True, disable_tqdm=True, seed=0, save_strategy="steps", **settings,
    )  # fmt: skip
    return Trainer(
        model=tiny_llama().to(dtype).train(),
        args=arguments,
        train_dataset=rows(),
        optimizer_cls_and_kwargs=(factory, {**options, "lr_aux": LR_AUX}),
    )


def weights(model: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


class OptimizerTrainingTester:
    """Subclass and fill in."""

    factory: ClassVar[type]
    options: ClassVar[dict[str, Any]]
    #: The matrix state that has to be there.
    key: ClassVar[str]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_trainer_resumes_to_the_bit(self, tmp_path: Path, dtype: torch.dtype) -> None:
        whole = make_trainer(tmp_path, self.factory, self.options, dtype)
        first = weights(whole.model)
        whole.train()
        resumed = make_trainer(tmp_path / "resumed", self.factory, self.options, dtype)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{STEPS // 2}"))
        assert all(a.equal(b) for a, b in zip(weights(resumed.model), weights(whole.model), strict=True))
        moved = [not a.equal(b) for a, b in zip(weights(whole.model), first, strict=True) if a.ndim == 2]
        assert all(moved)  # in bfloat16 a norm weight of one is too coarse to move

    def test_trainer_schedules_every_group_and_matrices_get_their_own_rule(self, tmp_path: Path) -> None:
        trainer = make_trainer(tmp_path, self.factory, self.options, torch.float32, gradient_accumulation_steps=2)
        trainer.train()
        groups = trainer.optimizer.param_groups
        assert {g["initial_lr"] for g in groups} == {self.options["lr"], LR_AUX}
        assert all(g["lr"] < g["initial_lr"] / 100 for g in groups)
        model, state = trainer.model, trainer.optimizer.state
        assert self.key in state[model.model.layers[0].mlp.up_proj.weight]
        for auxiliary in (model.model.embed_tokens.weight, model.lm_head.weight, model.model.norm.weight):
            assert state[auxiliary].keys() == {"step", "exp_avg", "exp_avg_sq"}
        shutil.rmtree(tmp_path)

    def test_accelerate_saves_and_loads(self, tmp_path: Path) -> None:
        def start() -> tuple[Accelerator, Any, Any, Any]:
            accelerator = Accelerator(cpu=True)
            model = tiny_llama().train()
            optimizer = self.factory()(model, **self.options, lr_aux=LR_AUX)
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, STEPS)
            return accelerator, *accelerator.prepare(model, optimizer, schedule)

        def go(run: tuple[Accelerator, Any, Any, Any], steps: range) -> None:
            accelerator, model, optimizer, schedule = run
            for step in steps:
                part = [row["input_ids"] for row in rows()[4 * step : 4 * step + 4]]
                accelerator.backward(model(input_ids=torch.stack(part), labels=torch.stack(part)).loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

        whole = start()
        go(whole, range(3))
        whole[0].save_state(str(tmp_path))
        go(whole, range(3, STEPS))
        resumed = start()
        resumed[0].load_state(str(tmp_path))
        go(resumed, range(3, STEPS))
        assert all(a.equal(b) for a, b in zip(weights(resumed[1]), weights(whole[1]), strict=True))

    def test_the_loss_falls(self) -> None:
        model = tiny_llama().train()
        optimizer = self.factory()(model, **self.options, lr_aux=1e-2)
        losses = []
        ids = torch.stack([row["input_ids"] for row in rows()])
        for _ in range(20):
            optimizer.zero_grad()
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]
