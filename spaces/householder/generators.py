# SPDX-License-Identifier: Apache-2.0
"""Generators by name. Weights are read from safetensors alone: no file that a visitor names is ever unpickled."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from embedded_shapes import SHAPES_FOLDER, UNPROJECTED_SHAPES_FOLDER
from names import MAX_PARAMETERS, MODELS, SHAPES, SHAPES_BEFORE
from torch import Tensor
from transformers import AutoConfig

from eigenhub.hub.space_events import shown_to_visitor
from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator


PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")


def generator(name: str) -> StyleGAN2Generator:
    """
    A generator, on the GPU where there is one.

    Args:
        name (`str`): an embedded name, a Hub id or a folder.
    """
    model: Any = load_generator(name)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=3)
def load_generator(name: str) -> StyleGAN2Generator:
    """The generator of a name, or a message for the visitor."""
    if name in MODELS:
        return read(UNPROJECTED_SHAPES_FOLDER if name == SHAPES_BEFORE else SHAPES_FOLDER)
    with shown_to_visitor(f"Cannot load {name!r}"):
        if Path(name).suffix.lower() in PICKLED:
            raise ValueError(
                f"a {Path(name).suffix} file can run code, and this page opens safetensors only. Convert it first: on the tab "
                "'Convert a checkpoint', or by `eigenhub householder convert FILE FOLDER`"
            )
        return read(name)


def read(name: str | Path) -> StyleGAN2Generator:
    """A generator from safetensors, complete and of a size that can be served."""
    config = AutoConfig.from_pretrained(name)
    if not isinstance(config, StyleGAN2Config):
        raise ValueError(f"it is a {config.model_type} model, not a stylegan2 one")
    with torch.device("meta"):
        count = sum(p.numel() for p in StyleGAN2Generator(config).parameters())
    if count > MAX_PARAMETERS:
        raise ValueError(f"it has {count:,} parameters, this page takes up to {MAX_PARAMETERS:,}")
    loaded: Any = StyleGAN2Generator.from_pretrained(name, use_safetensors=True, output_loading_info=True)
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"it is no StyleGAN2 generator, or a part of one: {missing[0]} and {len(missing) - 1} more are missing"
        )
    return model.float().eval().requires_grad_(False)


def unprojected(name: str, other: str) -> StyleGAN2Generator | None:
    """
    The same generator before it got projectors, if the visitor has named it.

    Args:
        name (`str`): the generator.
        other (`str`): the one to compare with; empty for none.
    """
    if not other or other == name:
        return None
    model, reference = generator(name), generator(other)
    for key in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "channel_base", "channel_max"):
        ours, theirs = getattr(model.config, key), getattr(reference.config, key)
        if ours != theirs:
            raise ValueError(f"{other!r} is another kind of generator: its {key} is {theirs}, not {ours}")
    return reference


def default_other(name: str, other: str) -> str:
    """What stands for the unprojected generator when a model has been chosen."""
    if name in MODELS:
        return SHAPES_BEFORE if name == SHAPES else ""
    return "" if other in MODELS else other


def start(model: StyleGAN2Generator, numbers: list[int], psi: float, label: int = 0) -> Tensor:
    """
    Style latents of samples, each by its own number.

    Args:
        model (`StyleGAN2Generator`): the generator.
        numbers (`list[int]`): seeds.
        psi (`float`): truncation.
        label (`int`, *optional*, defaults to 0): class, for conditional generators.
    """
    z = torch.cat([model.latents(1, number) for number in numbers])
    c = None
    if model.config.c_dim:
        if not 0 <= label < model.config.c_dim:
            raise ValueError(f"the class must be between 0 and {model.config.c_dim - 1}, got {label}")
        c = torch.nn.functional.one_hot(torch.full((len(z),), label, device=z.device), model.config.c_dim).float()
    ws: Tensor = model.mapping(z, c, psi)
    return ws
