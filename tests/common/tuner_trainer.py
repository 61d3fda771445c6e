# SPDX-License-Identifier: Apache-2.0
"""Under transformers' `Trainer`: checkpoints hold the adapter, and a resumed run is the uninterrupted one."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from tests.common.tuner_cases import LLAMA, adapter_parameters, assert_same_tensors
from tests.support.data import counting_rows


class UnderTrainer:
    """Mixin of `TunerTester`: whole training runs."""

    trainer_class: type[Trainer] = Trainer
    trainer_settings: dict[str, Any] = {}

    def trainer(self, folder: Path, steps: int = 6, **settings: Any) -> Trainer:
        """Six steps at most, a checkpoint after three."""
        rows = [{"input_ids": row, "labels": row} for row in counting_rows(32)]
        arguments = {
            "output_dir": str(folder),
            "max_steps": steps,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "linear",
            "save_steps": 3,
            "logging_steps": 1,
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "seed": 7,
        }
        torch.manual_seed(7)
        model = self.adapted(LLAMA, moved=False)
        return self.trainer_class(
            model=model, args=TrainingArguments(**(arguments | self.trainer_settings | settings)), train_dataset=rows
        )

    def test_trainer_resumes_bit_for_bit(self, tmp_path):
        straight = self.trainer(tmp_path / "straight")
        straight.train()
        losses = [entry["loss"] for entry in straight.state.log_history if "loss" in entry]
        assert len(losses) == 6
        resumed = self.trainer(tmp_path / "resumed")
        resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-3"))
        found, expected = (adapter_parameters(t.model, self.prefix) for t in (resumed, straight))
        assert_same_tensors(found, expected)
        untrained = adapter_parameters(self.trainer(tmp_path / "untrained").model, self.prefix)
        assert any(not torch.equal(tensor, expected[name]) for name, tensor in untrained.items())

    def test_trainer_checkpoints_hold_the_adapter_alone(self, tmp_path):
        trainer = self.trainer(tmp_path, steps=3)
        trainer.train()
        folder = tmp_path / "checkpoint-3"
        assert {"adapter_model.safetensors", "adapter_config.json"} <= {path.name for path in folder.iterdir()}
        assert not (folder / "model.safetensors").exists()
        keys = load_file(folder / "adapter_model.safetensors").keys()
        assert keys and all(f".{self.prefix}" in key for key in keys)
