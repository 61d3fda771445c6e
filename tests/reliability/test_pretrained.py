# SPDX-License-Identifier: Apache-2.0
"""`from_pretrained` of our models does with a damaged folder what it does with a model of Transformers' own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load, save
from transformers import AutoModel, PreTrainedModel

from tests.reliability.pretrained_loaders import MODELS
from tests.support.models import tiny_bert, tiny_llama
from tests.tuners.sorsa.helpers import adapted_llama


WEIGHTS, CONFIG = "model.safetensors", "config.json"


def changed(**entries: Any) -> Callable[[bytes], bytes]:
    return lambda good: json.dumps(json.loads(good) | entries).encode()


def without_first(good: bytes) -> bytes:
    tensors = load(good)
    return save({name: tensors[name] for name in sorted(tensors)[1:]}, {"format": "pt"})


def with_first(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[bytes], bytes]:
    def damage(good: bytes) -> bytes:
        tensors = load(good)
        name = sorted(tensors)[0]
        return save(tensors | {name: make(tensors[name])}, {"format": "pt"})

    return damage


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty weights": (WEIGHTS, lambda good: b""),
    "half the weights": (WEIGHTS, lambda good: good[: len(good) // 2]),
    "one byte less": (WEIGHTS, lambda good: good[:-1]),
    "no tensor": (WEIGHTS, lambda good: save({}, {"format": "pt"})),
    "a tensor less": (WEIGHTS, without_first),
    "a tensor more": (WEIGHTS, lambda good: save(load(good) | {"nobody": torch.ones(2)}, {"format": "pt"})),
    "another shape": (WEIGHTS, with_first(lambda tensor: torch.zeros(3, 5, 7))),
    "empty config": (CONFIG, lambda good: b""),
    "half the config": (CONFIG, lambda good: good[: len(good) // 2]),
    "a list": (CONFIG, lambda good: b"[]"),
    "deep": (CONFIG, lambda good: b'{"a":' * 100_000),
    "another model_type": (CONFIG, changed(model_type="gpt2")),
    "an unknown model_type": (CONFIG, changed(model_type="nobody")),
}


def outcome(make: Callable[[], PreTrainedModel], damage: str, folder: Path) -> Any:
    """The type of the error; or how many tensors Transformers has called missing and unexpected."""
    name, change = DAMAGE[damage]
    model = make()
    model.save_pretrained(folder)
    saved = set(load((folder / WEIGHTS).read_bytes()))
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    try:
        loaded, info = type(model).from_pretrained(folder, output_loading_info=True)
    except Exception as error:
        return type(error)
    missing = info["missing_keys"]
    for key, tensor in loaded.state_dict().items():
        assert tensor.isfinite().all() if key in missing else tensor.equal(model.state_dict()[key]), key
    return "all missing" if missing >= saved else len(missing), len(info["unexpected_keys"])


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", [name for name in MODELS if name != "bert"])
def test_as_a_model_of_transformers(name: str, damage: str, tmp_path: Path) -> None:
    assert outcome(MODELS[name], damage, tmp_path / "ours") == outcome(tiny_bert, damage, tmp_path / "theirs")


def test_auto_model_refuses_an_unknown_type(tmp_path: Path) -> None:
    MODELS["s4d"]().save_pretrained(tmp_path)
    (tmp_path / CONFIG).write_bytes(changed(model_type="nobody")((tmp_path / CONFIG).read_bytes()))
    with pytest.raises(ValueError, match="nobody"):
        AutoModel.from_pretrained(tmp_path)


def test_a_sorsa_adapter_with_a_tensor_less_is_told(tmp_path: Path) -> None:
    adapted_llama(moved=True).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(without_first(path.read_bytes()))
    with pytest.warns(UserWarning, match="Found missing adapter keys"):
        PeftModel.from_pretrained(tiny_llama(), tmp_path)
