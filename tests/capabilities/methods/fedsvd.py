# SPDX-License-Identifier: Apache-2.0
"""Three clients that train one LoRA adapter of a tiny Llama; the result is an ordinary adapter, and so are most probes."""

import os
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from eigenhub.federated.lora_model import live_tensors
from tests.capabilities import language
from tests.capabilities.compare import check_close, check_differs, check_equal, check_falls, check_near
from tests.capabilities.probes import Probes
from tests.capabilities.strangers import Export
from tests.capabilities.training import BACKEND, clean_dynamo, counted_blocks
from tests.common.federated_cases import CASES, SIZES, a_trainer, arguments, lora_model
from tests.common.federated_tester import StopAfter
from tests.support.data import counting_rows


CASE = "llama"
base_model = CASES[CASE][0]


def clients() -> dict[str, list[dict[str, Tensor]]]:
    """Three clients of different sizes, whose rows count upwards."""
    rows = {f"clinic-{i}": counting_rows(size, length=8, seed=i) for i, size in enumerate(SIZES)}
    return {
        name: [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in own]
        for name, own in rows.items()
    }


class FedSvdProbes(Probes):
    slug = "fedsvd"
    script_arguments = (
        *("--rank", "2", "--clients", "2", "--fraction", "1", "--local_steps", "1", "--per_device_batch_size", "2"),
        *("--task", "causal_lm", "--eval_splits", "train"),
    )

    def trainer(self, folder: Path, model: PeftModel | None = None, **options: Any) -> Any:
        """A federation of two rounds; options of `TrainingArguments` under `arguments`."""
        model = lora_model(CASE) if model is None else model
        args = arguments(folder / "run", **options.pop("arguments", {}))
        return a_trainer(folder / "run", CASE, model=model, args=args, client_datasets=clients(), **options)

    def trained(self, folder: Path, **options: Any) -> Any:
        trainer = self.trainer(folder, **options)
        self.losses = [record["train_loss"] for record in trainer.train()]
        return trainer

    def adapter(self, trainer: Any) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in live_tensors(trainer.model).items()}

    def save_load(self, folder: Path) -> None:
        trainer = self.trained(folder)
        saved = trainer.save_pretrained(folder / "adapter")
        expected = language.logits(trainer.model)
        check_differs(language.logits(base_model()), expected, "the adapter does nothing")
        loaded = PeftModel.from_pretrained(base_model(), saved)
        check_equal({"logits": language.logits(loaded)}, {"logits": expected}, "the loaded adapter")

    def export_to(self, folder: Path) -> Export:
        trainer = self.trained(folder)
        saved = trainer.save_pretrained(folder / "adapter")
        base_model().save_pretrained(folder / "base")
        asked, expected = {"input_ids": language.TOKENS}, language.logits(trainer.model)
        return Export(saved, "AutoModelForCausalLM", asked, expected, base=folder / "base")

    def bf16(self, folder: Path) -> None:
        self.trained(folder / "float32", num_rounds=5, local_steps=4)
        expected = self.losses
        model = lora_model(CASE)
        model.base_model.model.to(torch.bfloat16)
        self.trained(folder / "bfloat16", num_rounds=5, local_steps=4, model=model)
        check_falls(self.losses)
        check_near(self.losses, expected, 0.05, "the loss in bfloat16")

    def gradient_checkpointing(self, folder: Path) -> None:
        plain, model = lora_model(CASE), lora_model(CASE)
        model.get_base_model().activation_checkpointing_enable()
        with counted_blocks(plain, language.BLOCKS) as once, counted_blocks(model, language.BLOCKS) as twice:
            expected = self.adapter(self.trained(folder / "plain", model=plain))
            found = self.adapter(self.trained(folder / "saving", model=model))
        twice.check_twice(once)
        check_equal(found, expected, "the adapter")

    def compile(self, folder: Path) -> None:
        expected = self.adapter(self.trained(folder / "plain"))
        with clean_dynamo():
            model = lora_model(CASE)
            model.compile(backend=BACKEND)
            trainer = self.trained(folder / "compiled", model=model)
        check_close(self.adapter(trainer), expected, "compiled")

    def ddp(self, folder: Path) -> None:
        self.shared.group.check(self, "ddp")

    def fsdp2(self, folder: Path) -> None:
        self.shared.group.check(self, "fsdp2")

    def in_group(self, engine: str, folder: Path) -> dict[str, Tensor]:
        if engine == "fsdp2":
            os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # as `accelerate launch` does
        return self.changes(self.trained(folder, arguments={"per_device_train_batch_size": 4}))

    def reference(self, folder: Path) -> dict[str, Tensor]:
        return self.changes(self.trained(folder))

    def start(self, folder: Path) -> dict[str, Tensor]:
        return self.changes(self.trainer(folder))

    def changes(self, trainer: Any) -> dict[str, Tensor]:
        """Products B A: their factors turn by rounding where singular values are close."""
        state = self.adapter(trainer)
        pairs = {name: name.replace("lora_A", "lora_B") for name in state if "lora_A" in name}
        return {name: state[other] @ state[name] for name, other in pairs.items()}

    def resume(self, folder: Path) -> None:
        straight = self.adapter(self.trained(folder / "straight"))
        self.trained(folder / "cut", callbacks=[StopAfter(1)])
        resumed = self.trainer(folder / "cut")
        resumed.train(resume_from_checkpoint=True)
        check_equal(self.adapter(resumed), straight, "resumed")

    def quantized(self, folder: Path) -> None:
        for kind, base in language.quantized_bases(folder).items():
            self.trained(folder / kind, model=language.with_lora(base), num_rounds=4, local_steps=4)
            check_falls(self.losses, f"the loss on a base of {kind}")

    def peft(self, folder: Path) -> str:
        """It trains a stock adapter, which is then merged."""
        trainer = self.trained(folder)
        expected = language.logits(trainer.model)
        merged = language.logits(trainer.model.merge_and_unload())
        check_close({"logits": merged}, {"logits": expected}, "merged", atol=1e-5, rtol=1e-5)
        return "trains an adapter of PEFT's LoRA"

    def generate(self, folder: Path) -> None:
        language.check_generates(self.trained(folder).model)

    def prepare_script(self, folder: Path) -> list[str]:
        data = language.save_prompts(folder / "rows.jsonl")
        return ["--model", str(language.save_llama(folder / "llama")), "--dataset", str(data)]


PROBES = FedSvdProbes
