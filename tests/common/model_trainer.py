# SPDX-License-Identifier: Apache-2.0
"""Under transformers' `Trainer`: a resumed run is the uninterrupted one, and every checkpoint is a whole model."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import Trainer, TrainingArguments

from tests.common.model_case import ModelCase, assert_equal_tensors, tensors_of


class UnderTrainer(ModelCase):
    """Mixin of `ModelTester`.

    Attributes:
        trainer_keywords (`dict`): keywords of `Trainer`, for example `optimizer_cls_and_kwargs`.
    """

    trainer_keywords: ClassVar[dict[str, Any]] = {}

    def trainer(self, folder: Path, **settings: Any) -> Trainer:
        """Eight steps, a checkpoint after four."""
        columns = self.inputs(16)
        rows = [{name: tensor[i] for name, tensor in columns.items()} for i in range(16)]
        arguments = {
            "output_dir": str(folder),
            "max_steps": 8,
            "save_steps": 4,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "cosine",
            "logging_steps": 1,
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "seed": 7,
        }
        arguments = TrainingArguments(**(arguments | settings))
        return Trainer(model=self.model(), args=arguments, train_dataset=rows, **self.trainer_keywords)

    def test_four_steps_and_four_resumed_are_eight(self, tmp_path: Path) -> None:
        straight = self.trainer(tmp_path / "straight")
        straight.train()
        resumed = self.trainer(tmp_path / "resumed")
        resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-4"))
        assert_equal_tensors(resumed.model, straight.model)
        untrained = tensors_of(self.model())
        assert any(not torch.equal(t, untrained[name]) for name, t in tensors_of(straight.model).items())
        loaded = self.model_class.from_pretrained(tmp_path / "straight" / "checkpoint-8")
        assert_equal_tensors(loaded, straight.model.eval())

    def test_accumulated_batches_are_one(self, tmp_path: Path) -> None:
        """The loss of an accumulation window is that of the whole batch."""
        sizes = ({}, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2})
        losses = []
        for index, size in enumerate(sizes):
            trainer = self.trainer(tmp_path / str(index), max_steps=2, save_strategy="no", **size)
            trainer.train()
            losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        assert losses[0] == losses[1] or max(abs(a - b) for a, b in zip(*losses, strict=True)) < 1e-4
