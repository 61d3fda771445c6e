# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of any of the codes that StyleGAN2 models come from."""

import os

from eigenhub.models.stylegan2.format_loading import is_torch_file, read_tensors
from eigenhub.models.stylegan2.networks import StyleGAN2Networks
from eigenhub.models.stylegan2.nvidia_format import KEYS as NVIDIA_KEYS
from eigenhub.models.stylegan2.nvidia_format import load_nvidia
from eigenhub.models.stylegan2.rosinality_format import OFFICIAL_RANK, load_rosinality


SOURCES = ("auto", "nvidia", "rosinality", "householder")


def load_checkpoint(path: str | os.PathLike, source: str = "auto", rank: int = OFFICIAL_RANK) -> StyleGAN2Networks:
    """The networks of a checkpoint, read without running what the file brings.

    Args:
        path (`str`): the file.
        source (`str`, *optional*, defaults to `"auto"`): `"nvidia"` (stylegan2-ada-pytorch, or the StyleGAN2 models of
            stylegan3), `"rosinality"` (stylegan2-pytorch), `"householder"` (the official projector code, which must then have
            projectors), or `"auto"`, which tells by the content.
        rank (`int`, *optional*, defaults to 10): rank of official projectors, which the file does not tell.

    Returns:
        [`StyleGAN2Networks`].

    Raises:
        ValueError: a file that is truncated, malicious or of another model.

    Example:

    ```python
    >>> import tempfile
    >>> from eigenhub.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator, StyleGAN2Networks
    >>> from eigenhub.models.stylegan2 import load_checkpoint, save_rosinality
    >>> model = StyleGAN2Generator(StyleGAN2Config(z_dim=8, w_dim=8, img_resolution=8, channel_max=4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_rosinality(StyleGAN2Networks(generator_ema=model), f"{folder}/model.pt")
    ...     load_checkpoint(f"{folder}/model.pt").generator_ema.config.channel_max
    4
    ```
    """
    if source not in SOURCES:
        raise ValueError(f"`source` must be one of {', '.join(SOURCES)}; got {source!r}")
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank}")
    if source == "nvidia" or (source == "auto" and _is_nvidia(path)):
        return load_nvidia(path)
    networks = load_rosinality(path, rank)
    if source == "householder" and not networks.best_generator.config.projected_names:
        raise ValueError(f"{os.fspath(path)} has no projectors: it is a plain checkpoint of rosinality's code")
    return networks


def _is_nvidia(path: str | os.PathLike) -> bool:
    return not is_torch_file(path) or any(key in read_tensors(path) for key in NVIDIA_KEYS)
