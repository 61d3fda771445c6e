# SPDX-License-Identifier: Apache-2.0
"""Probes of the kind *tuner*, on a tiny Llama."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from tests.capabilities import language
from tests.capabilities.compare import check_close, check_differs, check_equal, check_falls
from tests.capabilities.training import ALL, TrainingProbes
from tests.common.tuner_cases import move


class TunerProbes(TrainingProbes):
    """A PEFT tuner.

    Attributes:
        config_class (`type[PeftConfig]`): configuration of the tuner.
        config (`dict`): its settings, without `target_modules`.
        prefix (`str`): of the adapter's parameters.
    """

    config_class: ClassVar[type[PeftConfig]]
    config: ClassVar[dict[str, Any]]
    prefix: ClassVar[str]
    blocks = language.BLOCKS
    lr = 3e-2

    def model(self) -> Any:
        return self.adapted(language.llama())

    def adapted(self, base: Any) -> PeftModel:
        model = get_peft_model(base, self.make_config())
        move(model, self.prefix)
        return model.train()

    def make_config(self) -> PeftConfig:
        return self.config_class(target_modules=language.TARGETS, task_type="CAUSAL_LM", **self.config)

    def loss(self, model: nn.Module, rows: slice = ALL) -> Tensor:
        return language.language_loss(model, rows)

    def in_bf16(self, model: Any) -> Any:
        return self.adapted(language.llama().to(torch.bfloat16))

    def with_checkpointing(self, model: Any) -> Any:
        base = language.llama()
        super().with_checkpointing(base)
        return self.adapted(base)

    def save_load(self, folder: Path) -> str | None:
        model = self.model()
        self.train(model)
        language.check_adapter_reloads(model, language.llama(), folder)
        return None

    def quantized(self, folder: Path) -> str | None:
        for kind, base in language.quantized_bases(folder).items():
            check_falls(self.train(self.adapted(base)), f"the loss on a base of {kind}")
        return None

    def peft(self, folder: Path) -> str | None:
        """Two adapters that are switched, and a merge."""
        model = self.model()
        first = language.logits(model)
        model.add_adapter("second", self.make_config())
        move(model, self.prefix, "second", seed=1)
        second = language.logits(model)
        check_differs(first, second, "two adapters compute the same")
        model.set_adapter("default")
        check_equal({"logits": language.logits(model)}, {"logits": first}, "the adapter that was switched back to")
        merged = language.logits(model.merge_and_unload())
        check_close({"logits": merged}, {"logits": first}, "merged", atol=1e-5, rtol=1e-5)
        return "is a tuner: adapters are switched and merged"

    def generate(self, folder: Path) -> str | None:
        language.check_generates(self.model())
        return None
