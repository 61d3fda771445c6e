# SPDX-License-Identifier: Apache-2.0
"""Probes of the kind *model*, on the case of its common tester."""

from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from eigenhub.hub.export_model import export_checkpoint
from tests.capabilities.compare import check_differs, check_equal, check_falls
from tests.capabilities.strangers import Export
from tests.capabilities.training import ALL, TrainingProbes
from tests.common.model_case import ModelCase, tensors_of
from tests.common.tuner_quantized import QUANTIZATION


class ModelProbes(TrainingProbes):
    """A transformers model.

    Attributes:
        case (`type[ModelCase]`): how to build and feed a tiny one.
        lora_targets (`list[str]`): modules for LoRA.
        quantized_config (`dict`): settings of a model that is wide enough for blocks of 64 weights.
        dense (`list[str]`): modules that must not be quantised.
    """

    case: ClassVar[type[ModelCase]]
    lora_targets: ClassVar[list[str]]
    quantized_config: ClassVar[dict[str, Any]] = {}
    dense: ClassVar[list[str]] = []

    def model(self) -> Any:
        return self.case.model().train()

    def loss(self, model: nn.Module, rows: slice = ALL) -> Tensor:
        inputs = {name: tensor[rows] for name, tensor in self.case.inputs(4).items()}
        kind = next(model.parameters()).dtype
        return self.case.loss(model, {n: t.to(kind) if t.is_floating_point() else t for n, t in inputs.items()})

    def answer(self, model: nn.Module) -> dict[str, Tensor]:
        return {"output": self.case.answer(model.eval())}

    def trained(self) -> Any:
        model = self.model()
        self.train(model)
        return model

    def save_load(self, folder: Path) -> str | None:
        model = self.trained()
        model.save_pretrained(folder)
        loaded = self.case.model_class.from_pretrained(folder)
        check_equal(tensors_of(loaded), tensors_of(model), "loaded")
        check_equal(self.answer(loaded), self.answer(model), "the loaded model's output")
        return None

    def export_to(self, folder: Path) -> Export:
        model = self.trained()
        model.save_pretrained(folder / "saved")
        export_checkpoint(str(folder / "saved"), folder / "export")
        auto = self.case.exported_as or self.case.auto_class
        expected = self.answer(model)["output"]
        return Export(folder / "export", str(auto), self.case.questions(), expected, output=self.case.output)

    def resume(self, folder: Path) -> str | None:
        return check_trainer_resumes(self.case().trainer, folder)

    def quantized(self, folder: Path) -> str | None:
        """LoRA on the packed layers: packed weights themselves have no gradient."""
        self.case.model(**self.quantized_config).save_pretrained(folder / "dense")
        for kind, settings in QUANTIZATION.items():
            quantization = transformers.BitsAndBytesConfig(**settings, llm_int8_skip_modules=self.dense or None)
            base = self.case.model_class.from_pretrained(
                folder / "dense", quantization_config=quantization, device_map="cpu", dtype=torch.float32
            )
            check_packed(base, kind)
            self.complete(base)
            check_falls(self.train(self.with_lora(base).train()), f"the loss on {kind}")
        return f"LoRA on it, with `llm_int8_skip_modules={self.dense}`" if self.dense else "LoRA on it"

    def complete(self, model: nn.Module) -> None:
        """Give a loaded model what training needs and no checkpoint holds."""

    def with_lora(self, base: Any) -> PeftModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return get_peft_model(base, LoraConfig(r=2, target_modules=self.lora_targets, init_lora_weights=False))

    def peft(self, folder: Path) -> str | None:
        model = self.with_lora(self.model())
        check_falls(self.train(model), "the loss of the adapter")
        model.save_pretrained(folder)
        expected, base = self.answer(model), self.case.model()
        check_differs(self.answer(base)["output"], expected["output"], "the adapter does nothing")
        check_equal(self.answer(PeftModel.from_pretrained(base, folder)), expected, "the loaded adapter's output")
        return "LoRA on " + ", ".join(f"`{name}`" for name in self.lora_targets)


def check_packed(model: nn.Module, kind: str) -> None:
    """Raise where bitsandbytes found nothing to quantise."""
    import bitsandbytes as bnb

    packed = [m for m in model.modules() if isinstance(m, bnb.nn.Linear8bitLt | bnb.nn.Linear4bit)]
    if not packed:
        raise AssertionError(
            f"bitsandbytes found no layer to pack in {kind}: it replaces `torch.nn.Linear` alone, and the model has none"
        )


def check_trainer_resumes(make: Any, folder: Path) -> None:
    """Raise unless four of eight steps, and four after them in fresh objects, end in the same bits as eight.

    Args:
        make (`Callable`): a `Trainer` of eight steps and a checkpoint after four, from its folder.
        folder (`Path`): for both runs.
    """
    straight = make(folder / "straight")
    start = {name: tensor.clone() for name, tensor in straight.model.state_dict().items()}
    straight.train()
    resumed = make(folder / "resumed")
    half = sorted((folder / "straight").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[0]
    resumed.train(resume_from_checkpoint=str(half))
    found, expected = resumed.model.state_dict(), straight.model.state_dict()
    if all(torch.equal(start[name], tensor) for name, tensor in expected.items()):
        raise AssertionError("the run trained nothing")
    check_equal(found, expected, "resumed")
