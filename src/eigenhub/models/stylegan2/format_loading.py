# SPDX-License-Identifier: Apache-2.0
"""What all converters share: strict loading, filters, and reading a file of tensors without running it."""

import argparse
import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from eigenhub.models.stylegan2.configuration_stylegan2 import StyleGAN2Config
from eigenhub.models.stylegan2.modeling_stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from eigenhub.models.stylegan2.resample import separable_filter


Network = TypeVar("Network", StyleGAN2Generator, StyleGAN2Discriminator)
FILTER_NAME = "resample_filter"
ZIP_MAGIC = b"PK\x03\x04"
#: The number that files of `torch.save` from before ZIP archives start with, as pickle writes it.
LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


def make_config(settings: Mapping[str, Any]) -> StyleGAN2Config:
    """A configuration, or a `ValueError` for settings of a checkpoint that cannot be.

    Args:
        settings (`Mapping[str, Any]`): fields of [`StyleGAN2Config`].
    """
    try:
        return StyleGAN2Config(**settings)
    except StrictDataclassError as error:
        raise ValueError(f"the checkpoint has settings that cannot be: {error}") from error


def load_strictly(model_class: type[Network], config: StyleGAN2Config, tensors: Mapping[str, Tensor]) -> Network:
    """A network with all of the given tensors, or an error that names what does not fit.

    Args:
        model_class (`type`): class of the network.
        config ([`StyleGAN2Config`]): its configuration.
        tensors (`Mapping[str, Tensor]`): by name, without the filter.
    """
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in model_class(config).state_dict().items()}
    wanted = {name: shape for name, shape in shapes.items() if not name.endswith(FILTER_NAME)}
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unknown:
        raise ValueError(
            f"the checkpoint is no {model_class.__name__}: missing {missing[:5]}, unexpected {unknown[:5]}"
        )
    wrong = [name for name, shape in wanted.items() if tensors[name].shape != shape]
    if wrong:
        name = wrong[0]
        raise ValueError(f"`{name}` must have shape {tuple(wanted[name])}, got {tuple(tensors[name].shape)}")
    model = model_class(config)
    model.load_state_dict({name: tensors[name].float() for name in wanted}, strict=False)
    return model.eval()


def check_filter(name: str, kernel: Tensor, taps: list[Any], gain: float = 1.0) -> None:
    """Raises a `ValueError` for a filter other than that of the configuration.

    Args:
        name (`str`): where it stands in the checkpoint.
        kernel (`Tensor`): it.
        taps (`list`): `config.resample_filter`.
        gain (`float`, *optional*, defaults to 1.0): factor on it.
    """
    expected = gain * separable_filter(taps)
    if kernel.shape != expected.shape or not torch.allclose(kernel.float(), expected, atol=1e-5):
        raise ValueError(f"`{name}` must be the filter {list(taps)}, got {kernel.tolist()}")


def read_tensors(path: str | os.PathLike) -> dict[str, Any]:
    """A file of `torch.save` that holds dictionaries of tensors, numbers and arguments, and nothing that runs.

    Args:
        path (`str`): the file.
    """
    if is_archive(path):
        check_archive(path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{os.fspath(path)} is no checkpoint that can be read safely: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{os.fspath(path)} must hold a dictionary, got {type(found).__name__}")
    return found


def is_torch_file(path: str | os.PathLike) -> bool:
    """Whether a file was written by `torch.save` (a ZIP archive, or its older form) and not by `pickle` alone.

    Args:
        path (`str`): the file.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    return head.startswith(ZIP_MAGIC) or LEGACY_MAGIC in head


def is_archive(path: str | os.PathLike) -> bool:
    """Whether a file begins as a ZIP archive.

    Args:
        path (`str`): the file.
    """
    with open(path, "rb") as file:
        return file.read(4) == ZIP_MAGIC


def check_archive(path: str | os.PathLike) -> None:
    """Raises a `ValueError` for an archive that is cut short or takes more memory than it has bytes.

    Args:
        path (`str`): the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{os.fspath(path)} is no checkpoint that can be read safely: {error}") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):  # `torch.save` compresses nothing
        raise ValueError(f"{os.fspath(path)} has compressed entries, which no checkpoint has")
    if sum(entry.file_size for entry in entries) > os.path.getsize(path):
        raise ValueError(f"{os.fspath(path)} has entries that are larger than the file")


def infer_channels(channels: Mapping[int, int]) -> dict[str, Any]:
    """`channel_base` and `channel_max` of the channels at each resolution.

    Args:
        channels (`Mapping[int, int]`): channels by resolution, from 4 up.
    """
    bound = max(channels.values())
    free = {n * resolution for resolution, n in channels.items() if n < bound}
    # where no resolution is free, any base that is large enough computes the same
    base = min(free) if free else max(bound * max(channels), 32768)
    expected = {resolution: min(base // resolution, bound) for resolution in channels}
    if expected != dict(channels):
        raise ValueError(f"channels must be min(base // resolution, bound), got {dict(channels)}")
    return {"channel_base": base, "channel_max": bound}
