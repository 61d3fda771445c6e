# SPDX-License-Identifier: Apache-2.0
"""SenD on a tiny Llama: short runs of `SenDTrainer` whose mask acts in the last epochs."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from eigenhub.training.send import SenDConfig, SenDTrainer, runtime_of
from tests.capabilities import language
from tests.capabilities.compare import check_close, check_equal, check_falls, check_near, weights_of
from tests.capabilities.probes import Probes
from tests.capabilities.strangers import Export
from tests.capabilities.training import BACKEND, clean_dynamo, counted_blocks
from tests.common.callback_tester import BATCH, ENGINES, STEPS, arguments, common_parts, losses, make_model
from tests.scripts.tiny_neox import save_tiny_neox
from tests.training.send.cases import SETTINGS, tracked


class SenDProbes(Probes):
    slug = "send"
    script_arguments = (
        *("--per_device_batch_size", "4", "--eval_samples", "10", "--max_new_tokens", "2", "--track_steps", "1"),
        *("--window", "2", "--refresh_every", "2"),
    )

    def trainer(
        self, folder: Path, model: Any = None, settings: Mapping[str, Any] = MappingProxyType({}), **options: Any
    ) -> SenDTrainer:
        return SenDTrainer(
            model=make_model() if model is None else model,
            args=arguments(folder, **{"save_strategy": "no", **options}),
            send_config=SenDConfig(**(SETTINGS | dict(settings))),
            track_dataset=tracked(),
            **common_parts(),
        )

    def trained(self, folder: Path, **options: Any) -> SenDTrainer:
        trainer = self.trainer(folder, **options)
        trainer.train()
        if not runtime_of(trainer.model).dropped:
            raise AssertionError("the protocol dropped nothing")
        return trainer

    def ended(self, trainer: SenDTrainer) -> dict[str, Tensor]:
        """Weights and what is dropped."""
        return weights_of(trainer.model) | {"dropped": torch.tensor(runtime_of(trainer.model).dropped)}

    def save_load(self, folder: Path) -> None:
        trainer = self.trained(folder / "run")
        trainer.save_model(folder / "model")
        loaded = AutoModelForCausalLM.from_pretrained(folder / "model")
        expected = {"logits": language.logits(trainer.model)}
        check_equal({"logits": language.logits(loaded)}, expected, "the loaded model")

    def export_to(self, folder: Path) -> Export:
        trainer = self.trained(folder / "run")
        trainer.save_model(folder / "model")
        asked = {"input_ids": language.TOKENS}
        return Export(folder / "model", "AutoModelForCausalLM", asked, language.logits(trainer.model))

    def bf16(self, folder: Path) -> None:
        expected = losses(self.trained(folder / "float32"))
        found = losses(self.trained(folder / "bfloat16", model=make_model().to(torch.bfloat16)))
        check_falls(found)
        check_near(found, expected, 0.05, "the loss in bfloat16")

    def gradient_checkpointing(self, folder: Path) -> None:
        plain, model = make_model(), make_model()
        with counted_blocks(plain, language.BLOCKS) as once, counted_blocks(model, language.BLOCKS) as twice:
            expected = self.ended(self.trained(folder / "plain", model=plain))
            found = self.ended(self.trained(folder / "saving", model=model, activation_checkpointing=True))
        twice.check_twice(once)
        check_close(found, expected, "weights")

    def compile(self, folder: Path) -> None:
        expected = self.ended(self.trained(folder / "plain"))
        with clean_dynamo():
            trainer = self.trained(folder / "compiled", torch_compile_backend=BACKEND)
        if not isinstance(trainer.model_wrapped, torch._dynamo.OptimizedModule):
            raise AssertionError("`Trainer` did not compile the model")
        check_close(self.ended(trainer), expected, "compiled")

    def ddp(self, folder: Path) -> None:
        self.shared.group.check(self, "ddp")

    def fsdp2(self, folder: Path) -> None:
        self.shared.group.check(self, "fsdp2")

    def in_group(self, engine: str, folder: Path) -> dict[str, Tensor]:
        trainer = self.trained(folder, per_device_train_batch_size=BATCH // 2, **ENGINES[engine])
        if engine == "fsdp2" and not any(hasattr(p, "full_tensor") for p in trainer.model.parameters()):
            raise AssertionError("no parameter is sharded")
        return self.ended(trainer)

    def reference(self, folder: Path) -> dict[str, Tensor]:
        return self.ended(self.trained(folder))

    def start(self, folder: Path) -> dict[str, Tensor]:
        return weights_of(make_model())

    def resume(self, folder: Path) -> None:
        straight = self.trained(folder / "straight", save_strategy="steps")
        resumed = self.trainer(folder / "resumed")
        resumed.train(resume_from_checkpoint=str(folder / "straight" / f"checkpoint-{STEPS // 2}"))
        check_equal(self.ended(resumed), self.ended(straight), "resumed")

    def quantized(self, folder: Path) -> str:
        for kind, base in language.quantized_bases(folder).items():
            trainer = self.trained(folder / kind, model=language.with_lora(base))
            check_falls(losses(trainer), f"the loss on a base of {kind}")
        return "LoRA on it"

    def peft(self, folder: Path) -> None:
        model = language.with_lora(make_model())
        trainer = self.trained(folder / "run", model=model)
        language.check_adapter_reloads(trainer.model, make_model(), folder / "adapter")

    def generate(self, folder: Path) -> None:
        """With the mask on the model."""
        language.check_generates(self.trained(folder, settings={"mask_in_eval": True}).model)

    def prepare_script(self, folder: Path) -> list[str]:
        return ["--model", save_tiny_neox(folder / "neox", hidden_size=16, num_layers=3)]


PROBES = SenDProbes
