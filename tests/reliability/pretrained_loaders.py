# SPDX-License-Identifier: Apache-2.0
"""Models and adapters as Transformers and PEFT load them: whose errors are theirs, and who must tell what was missing."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from tests.models.bt2.test_common import TestBt2Embedder, TestBt2ForImageClassification
from tests.models.state_space.cases import language_model
from tests.models.stylegan2.tiny import discriminator, generator
from tests.reliability.loader import Loader
from tests.support.models import tiny_bert, tiny_llama
from tests.tuners.sorsa.helpers import adapted_llama


TINY_GAN = {"img_resolution": 8, "channel_max": 2, "z_dim": 4, "w_dim": 4}
#: The last one is Transformers' own, to compare with.
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "s5_ptd": lambda: language_model("s5"),
    "s4d": lambda: language_model("s4d"),
    "bt2": TestBt2ForImageClassification.model,
    "bt2_embedder": TestBt2Embedder.model,
    "stylegan2 generator": lambda: generator(**TINY_GAN),
    "stylegan2 discriminator": lambda: discriminator(**TINY_GAN),
    "bert": tiny_bert,
}


def told(model_class: type[PreTrainedModel], folder: Path) -> PreTrainedModel:
    """The model of a folder; what Transformers only warns about is an error here, as nothing may be passed over."""
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    if odd := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
        raise ValueError(f"{folder}: Transformers has warned of {odd[0]}")
    return model


def told_adapter(folder: Path) -> PeftModel:
    """As [`told`], for the adapter of a folder."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        return PeftModel.from_pretrained(tiny_llama(), folder)


def saved(make: Callable[[], Any], name: str) -> Callable[[Path], Path]:
    """Writes a model and gives one of its files."""

    def write(folder: Path) -> Path:
        make().save_pretrained(folder)
        return folder / name

    return write


def rows(name: str, make: Callable[[], PreTrainedModel]) -> list[Loader]:
    """Weights and configuration of a model; the errors are Transformers'."""
    model_class = type(make())
    shared: dict[str, Any] = {"errors": (Exception,), "names_file": False, "slow": True}
    return [
        Loader(f"{name} {file}", kind, saved(make, file), lambda path: told(model_class, path.parent), **shared)
        for file, kind in (("model.safetensors", "safetensors"), ("config.json", "config"))
    ]


PRETRAINED_LOADERS = [row for name, make in MODELS.items() if name != "bert" for row in rows(name, make)]
PRETRAINED_LOADERS += [
    Loader(
        "SORSA adapter_model.safetensors",
        "safetensors",
        saved(lambda: adapted_llama(moved=True), "adapter_model.safetensors"),
        lambda path: told_adapter(path.parent),
        errors=(Exception,),
        names_file=False,
        slow=True,
    )
]
