# SPDX-License-Identifier: Apache-2.0
"""SORSA on a tiny Llama, with its penalty on the singular vectors."""

from pathlib import Path

from torch import nn

from eigenhub.tuners.sorsa import SorsaConfig, SorsaTrainer, apply_regularizer, export_checkpoint
from tests.capabilities import language
from tests.capabilities.models import check_trainer_resumes
from tests.capabilities.strangers import Export
from tests.capabilities.tuners import TunerProbes
from tests.tuners.sorsa.trainers import trainer


class SorsaProbes(TunerProbes):
    slug = "sorsa"
    config_class = SorsaConfig
    config = {"r": 2, "reg_weight": 0.5}
    prefix = "sorsa_"
    script_arguments = ("--task", "causal_lm", "--rank", "2", "--per_device_batch_size", "2")

    def after_backward(self, model: nn.Module) -> None:
        apply_regularizer(model)

    def export_to(self, folder: Path) -> Export:
        model = self.model()
        self.train(model)
        model.save_pretrained(folder / "adapter")
        language.llama().save_pretrained(folder / "base")
        export_checkpoint(str(folder / "adapter"), folder / "lora")
        asked = {"input_ids": language.TOKENS}
        return Export(folder / "lora", "AutoModelForCausalLM", asked, language.logits(model), base=folder / "base")

    def resume(self, folder: Path) -> None:
        def make(place: Path) -> SorsaTrainer:
            settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch"}
            return trainer(self.model(), place, SorsaTrainer, **settings)

        check_trainer_resumes(make, folder)

    def prepare_script(self, folder: Path) -> list[str]:
        data = language.save_prompts(folder / "rows.jsonl")
        return ["--model", str(language.save_llama(folder / "llama")), "--dataset", str(data)]


PROBES = SorsaProbes
