# SPDX-License-Identifier: Apache-2.0
"""What differs between the methods for somebody who publishes a small embedded checkpoint, and for those who load it.

Everything of the package is imported where it is used: readers without it use this module too.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoTokenizer,
    PreTrainedModel,
    TrainingArguments,
)


ORGANISATION = "users"


def ramp(*shape: int) -> Tensor:
    """The same numbers from -1 to 1 in every process."""
    return torch.linspace(-1, 1, torch.Size(shape).numel()).view(shape)


class UserCase:
    """One method: how its artefact is made, exported and loaded, with the package and without it."""

    slug: ClassVar[str]
    #: What `eigenhub export` writes is a second repository; others load without the package as they are.
    exported: ClassVar[bool] = False

    @property
    def repo(self) -> str:
        return f"{ORGANISATION}/{self.slug}"

    @property
    def plain_repo(self) -> str:
        return f"{self.repo}-plain" if self.exported else self.repo

    def make(self, folder: Path, steps: int) -> Any:
        """Trains for some steps, saves into `folder` and returns the model."""
        raise NotImplementedError

    def load(self, place: str, **options: Any) -> Any:
        """The model, with the package."""
        return self.load_plain(place, **options)

    def load_plain(self, place: str, **options: Any) -> Any:
        """The model, without the package."""
        raise NotImplementedError

    def answer(self, model: Any) -> Tensor:
        with torch.no_grad():
            return self.compute(model.eval())

    def compute(self, model: Any) -> Tensor:
        raise NotImplementedError


class TokenCase(UserCase):
    """Causal language models of transformers."""

    def load_plain(self, place: str, **options: Any) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(place, **options)

    def compute(self, model: Any) -> Tensor:
        return model(input_ids=torch.arange(4, 16)[None]).logits


class DigitAdapterCase(UserCase):
    """Adapters of the small embedded ViT, which lies on the Hub."""

    base: ClassVar[str]

    def pushed_base(self) -> PreTrainedModel:
        from eigenhub.embedded.vit import pretrained_vit_folder

        AutoModelForImageClassification.from_pretrained(pretrained_vit_folder(num_steps=2)).push_to_hub(self.base)
        return AutoModelForImageClassification.from_pretrained(self.base)

    def load_plain(self, place: str, **options: Any) -> Any:
        from peft import PeftModel

        base = AutoModelForImageClassification.from_pretrained(self.base)
        return PeftModel.from_pretrained(base, place, **options)

    def compute(self, model: Any) -> Tensor:
        return model(pixel_values=ramp(3, 1, 8, 8)).logits


class Sorsa(DigitAdapterCase):
    slug, base, exported = "sorsa", "users/sorsa-base", True

    def make(self, folder: Path, steps: int) -> Any:
        from peft import get_peft_model

        from eigenhub import SorsaConfig
        from eigenhub.embedded.pretrain import fit

        model = get_peft_model(self.pushed_base(), SorsaConfig(r=4, target_modules=["q_proj", "v_proj"]))
        batch = {"pixel_values": ramp(10, 1, 8, 8), "labels": torch.arange(10)}
        fit(model, iter([batch] * steps), steps, 1e-2, "", progress=False)
        model.save_pretrained(folder)
        return model

    def load(self, place: str, **options: Any) -> Any:
        import eigenhub.auto  # noqa: F401

        return self.load_plain(place, **options)


class FedSVD(DigitAdapterCase):
    slug, base = "fedsvd", "users/fedsvd-base"

    def make(self, folder: Path, steps: int) -> Any:
        from peft import LoraConfig, get_peft_model

        from eigenhub.embedded.digits import as_rows, load_digits
        from eigenhub.federated import FederatedLoraTrainer, FedSVDConfig, iid

        digits = load_digits()["train"].select(range(64))
        clients = {f"clinic-{i}": as_rows(share) for i, share in enumerate(iid(digits, 2))}
        model = get_peft_model(self.pushed_base(), LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj"]))
        arguments = TrainingArguments(
            f"{folder}-run",
            per_device_train_batch_size=16,
            optim="sgd",
            learning_rate=0.5,
            use_cpu=True,
            report_to="none",
        )
        config = FedSVDConfig(num_rounds=steps, init_A="orthonormal")
        trainer = FederatedLoraTrainer(model, arguments, clients, config=config)
        trainer.train()
        trainer.save_pretrained(folder)
        return trainer.model


class DCT(TokenCase):
    slug = "dct"

    def make(self, folder: Path, steps: int) -> Any:
        from eigenhub.embedded.byte_llama import byte_batches, new_byte_llama
        from eigenhub.embedded.byte_tokenizer import byte_tokenizer
        from eigenhub.optim import OptimizerConfig

        model, config = new_byte_llama(), OptimizerConfig("trion", {"lr": 0.02, "lr_aux": 1e-3, "rank": 0.25})
        optimizer = config.build(model)
        for _, rows in zip(range(steps), byte_batches(2), strict=False):
            model(input_ids=rows, labels=rows).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        config.save_pretrained(folder)
        return model

    def load(self, place: str, **options: Any) -> Any:
        from eigenhub.optim import OptimizerConfig, Trion

        model = self.load_plain(place, **options)
        assert isinstance(OptimizerConfig.from_pretrained(place, **options).build(model), Trion)
        return model


class SenD(TokenCase):
    slug = "send"

    def make(self, folder: Path, steps: int) -> Any:
        from eigenhub.embedded.fact_answers import encode_facts
        from eigenhub.embedded.fact_model import pretrained_fact_folder
        from eigenhub.embedded.facts import load_facts
        from eigenhub.training.send import SenDConfig, SenDTrainer

        base = pretrained_fact_folder(num_steps=2, hidden_size=16, num_layers=2)
        tokenizer = AutoTokenizer.from_pretrained(base)
        rows = encode_facts(load_facts()["train"].select(range(32)), tokenizer)
        trainer = SenDTrainer(
            AutoModelForCausalLM.from_pretrained(base),
            TrainingArguments(
                f"{folder}-run", max_steps=2 * steps, learning_rate=1e-2, use_cpu=True, report_to="none"
            ),
            train_dataset=rows[:24],
            track_dataset=rows[24:],
            send_config=SenDConfig(rho=0.2, window=2, refresh_every=2),
        )
        trainer.train()
        trainer.save_model(str(folder))
        tokenizer.save_pretrained(folder)
        return trainer.model


class ModelCase(UserCase):
    """Architectures of this package, whose export carries its code."""

    exported = True
    auto: ClassVar[Any] = AutoModel

    def load(self, place: str, **options: Any) -> Any:
        import eigenhub.auto  # noqa: F401

        return self.auto.from_pretrained(place, **options)

    def load_plain(self, place: str, **options: Any) -> Any:
        return self.auto.from_pretrained(place, trust_remote_code=True, **options)


class S5PTD(ModelCase):
    slug, auto = "s5_ptd", AutoModelForImageClassification

    def make(self, folder: Path, steps: int) -> Any:
        from eigenhub.embedded.pretrain import fit
        from eigenhub.embedded.sequential_digits import load_sequential_digits
        from eigenhub.models.s5_ptd import S5Config, S5ForImageClassification

        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "state_size": 8, "num_blocks": 1, "num_hidden_layers": 1, "num_labels": 10}
        model = S5ForImageClassification(S5Config(input_size=1, **sizes))
        fit(model, iter([load_sequential_digits(1)["train"][:8]] * steps), steps, 1e-2, "", progress=False)
        model.save_pretrained(folder)
        return model

    def compute(self, model: Any) -> Tensor:
        return model(pixel_values=ramp(2, 1, 8, 8)).logits


class BT2(ModelCase):
    slug = "bt2"

    def make(self, folder: Path, steps: int) -> Any:
        from eigenhub.embedded.glyph_models import EMBEDDING_DIM, glyph_backbone, glyph_embedder_folder
        from eigenhub.embedded.glyphs import load_glyphs
        from eigenhub.embedded.pretrain import fit
        from eigenhub.models.bt2 import (
            Bt2Config,
            Bt2EmbedderForImageClassification,
            Bt2ForImageClassification,
            class_prototypes,
        )

        batch = load_glyphs(2, 1)["train"][:16]  # of the first eight classes
        batch.pop("item_id")
        teacher = Bt2EmbedderForImageClassification.from_pretrained(glyph_embedder_folder("old", epochs=1))
        old = teacher(pixel_values=batch["pixel_values"]).embedding.detach()
        torch.manual_seed(0)
        sizes = {"new_dim": EMBEDDING_DIM, "old_dim": EMBEDDING_DIM, "added_dim": 16, "num_labels": 8}
        old_model = {"id": "users/glyphs-v1", "revision": "a1", "dim": EMBEDDING_DIM, "preprocessing": "28 x 28"}
        config = Bt2Config(backbone_config=glyph_backbone("new"), old_model=old_model, **sizes)
        model = Bt2ForImageClassification(config)
        model.set_old_prototypes(class_prototypes(old, batch["labels"], 8))
        fit(model, iter([batch | {"old_embedding": old}] * steps), steps, 1e-2, "", progress=False)
        model.save_pretrained(folder)
        return model

    def answer(self, model: Any) -> Tensor:
        # the classifier that was trained, or the embedder of it that `AutoModel` loads
        return super().answer(getattr(model, "bt2", model))

    def compute(self, model: Any) -> Tensor:
        return model(pixel_values=ramp(2, 1, 28, 28)).embedding


class Householder(ModelCase):
    slug = "householder"

    def make(self, folder: Path, steps: int) -> Any:
        from eigenhub.embedded.shape_generator import pretrained_shape_generator_folder
        from eigenhub.models.stylegan2 import StyleGAN2Generator

        trained = pretrained_shape_generator_folder(num_steps=1, tuning_steps=steps, rank=2, size=16, batch_size=2)
        model = StyleGAN2Generator.from_pretrained(trained)
        model.save_pretrained(folder)
        return model

    def compute(self, model: Any) -> Tensor:
        return model.sample(2, seed=0)


CASES: dict[str, UserCase] = {
    case.slug: case for case in (Sorsa(), DCT(), S5PTD(), BT2(), FedSVD(), SenD(), Householder())
}
