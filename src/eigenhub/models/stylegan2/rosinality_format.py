# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of rosinality's stylegan2-pytorch and of the official Householder GAN, which have its layout: both ways."""

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eigenhub.files import naming, replacing
from eigenhub.models.stylegan2.configuration_stylegan2 import StyleGAN2Config
from eigenhub.models.stylegan2.format_loading import (
    check_filter,
    infer_channels,
    load_strictly,
    make_config,
    read_tensors,
)
from eigenhub.models.stylegan2.modeling_stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from eigenhub.models.stylegan2.networks import StyleGAN2Networks
from eigenhub.models.stylegan2.nvidia_format import folded_state_dict
from eigenhub.models.stylegan2.resample import separable_filter
from eigenhub.models.stylegan2.style_layers import resolutions


KEYS = {"g_ema": "generator_ema", "g": "generator", "d": "discriminator"}
#: The code of the official Householder GAN keeps the rank out of its checkpoints; its scripts use this one.
OFFICIAL_RANK = 10
LATENTS_FOR_MEAN = 4096


class Pair(NamedTuple):
    """One tensor in both layouts, which differ by name and by sides of length one.

    Args:
        ours (`str`): name in this package.
        theirs (`str`): name in the checkpoint.
        shape (`tuple[int, ...]`): sides in the checkpoint; -1 for those that both share, in order.
    """

    ours: str
    theirs: str
    shape: tuple[int, ...]


def load_rosinality(path: str | os.PathLike, rank: int = OFFICIAL_RANK) -> StyleGAN2Networks:
    """The networks of a `.pt` of rosinality's stylegan2-pytorch or of the official Householder GAN.

    Sizes are read from the tensors. A checkpoint without a mean latent gets the mean of 4096 mapped latents. Projectors are
    imported as `"dense"` ones with gain 1 and $A = Q(Y_U) S\\,Q(Y_V)$, the product of the code that published checkpoints were
    made with.

    Args:
        path (`str`): the file.
        rank (`int`, *optional*, defaults to 10): rank of the projectors, which the file does not tell.

    Returns:
        [`StyleGAN2Networks`].

    Raises:
        ValueError: files that cannot be read without running them, other networks, sizes that do not belong together.
    """
    found = read_tensors(path)
    if not any(isinstance(found.get(key), Mapping) for key in KEYS):
        raise ValueError(
            f"{os.fspath(path)} must hold one of {', '.join(KEYS)}, got the keys {sorted(map(str, found))}"
        )
    networks: dict[str, Any] = {}
    with naming(path):
        for key, name in KEYS.items():
            tensors = found.get(key)
            if isinstance(tensors, Mapping):
                tensors = {str(n).removeprefix("module."): t for n, t in tensors.items()}
                generator = key != "d"
                networks[name] = (
                    _generator(tensors, found.get("latent_avg"), rank) if generator else _discriminator(tensors)
                )
    return StyleGAN2Networks(**networks)


def save_rosinality(networks: StyleGAN2Networks, path: str | os.PathLike) -> None:
    """Writes a `.pt` that rosinality's code loads. Projectors are folded.

    Args:
        networks ([`StyleGAN2Networks`]): what to write.
        path (`str`): the file.

    Raises:
        ValueError: networks that the layout cannot hold: conditions, other images than RGB, `z_dim` other than `w_dim`.
    """
    written: dict[str, Any] = {}
    for key, name in KEYS.items():
        model = getattr(networks, name)
        if model is not None:
            written[key] = rosinality_state_dict(model)
    if not written:
        raise ValueError("`networks` must hold at least one network, got none")
    if networks.generator is not None or networks.generator_ema is not None:
        written["latent_avg"] = networks.best_generator.mapping.w_avg.detach().float().cpu().clone()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        torch.save(written, draft)


def rosinality_state_dict(model: StyleGAN2Generator | StyleGAN2Discriminator) -> dict[str, Tensor]:
    """The tensors of a network under rosinality's names.

    Args:
        model ([`StyleGAN2Generator`] or [`StyleGAN2Discriminator`]): the network; projectors are folded in what is returned.
    """
    config = model.config
    _check_writable(config)
    tensors = folded_state_dict(model)
    kernel = separable_filter(config.resample_filter)
    if isinstance(model, StyleGAN2Generator):
        pairs, filters = generator_pairs(config), generator_filters(config)
    else:
        pairs, filters = discriminator_pairs(config), discriminator_filters(config)
    found = {pair.theirs: tensors[pair.ours].reshape(_filled(pair.shape, tensors[pair.ours])) for pair in pairs}
    return found | {name: gain * kernel for name, gain in filters.items()}


def generator_pairs(config: StyleGAN2Config) -> list[Pair]:
    """All tensors of a generator but the mean latent.

    Args:
        config ([`StyleGAN2Config`]): its configuration.
    """
    pairs = [Pair("synthesis.b4.const", "input.input", (1, -1, -1, -1))]
    for i in range(config.mapping_layers):
        pairs += [Pair(f"mapping.fc{i}.weight", f"style.{i + 1}.weight", (-1, -1))]
        pairs += [Pair(f"mapping.fc{i}.bias", f"style.{i + 1}.bias", (-1,))]
    for layer in config.style_layers:
        ours, (theirs, noise) = f"synthesis.{layer.name}", layer_names(layer.name)
        pairs += [
            Pair(f"{ours}.affine.weight", f"{theirs}.conv.modulation.weight", (-1, -1)),
            Pair(f"{ours}.affine.bias", f"{theirs}.conv.modulation.bias", (-1,)),
            Pair(f"{ours}.weight", f"{theirs}.conv.weight", (1, -1, -1, -1, -1)),
        ]
        if layer.kind == "torgb":
            pairs.append(Pair(f"{ours}.bias", f"{theirs}.bias", (1, -1, 1, 1)))
            continue
        pairs += [
            Pair(f"{ours}.bias", f"{theirs}.activate.bias", (-1,)),
            Pair(f"{ours}.noise_strength", f"{theirs}.noise.weight", (1,)),
            Pair(f"{ours}.noise_const", f"noises.noise_{noise}", (1, 1, -1, -1)),
        ]
    return pairs


def layer_names(name: str) -> tuple[str, int]:
    """rosinality's name of a layer with a style, and the number of its noise.

    Args:
        name (`str`): for example `"b8.conv0"`.
    """
    block, _, kind = name.partition(".")
    level = int(block[1:]).bit_length() - 1
    if kind == "torgb":
        return ("to_rgb1" if level == 2 else f"to_rgbs.{level - 3}"), -1
    if level == 2:
        return "conv1", 0
    second = int(kind == "conv1")
    return f"convs.{2 * (level - 3) + second}", 2 * level - 5 + second


def discriminator_pairs(config: StyleGAN2Config) -> list[Pair]:
    """All tensors of a discriminator.

    Args:
        config ([`StyleGAN2Config`]): its configuration.
    """
    top = config.img_resolution
    names = [(f"b{top}.fromrgb", "convs.0.0", "convs.0.1")]
    for place, resolution in enumerate(reversed(resolutions(top)[1:]), start=1):
        ours, theirs = f"b{resolution}", f"convs.{place}"
        names.append((f"{ours}.conv0", f"{theirs}.conv1.0", f"{theirs}.conv1.1"))
        names.append((f"{ours}.conv1", f"{theirs}.conv2.1", f"{theirs}.conv2.2"))
        names.append((f"{ours}.skip", f"{theirs}.skip.1", ""))
    names.append(("b4.conv", "final_conv.0", "final_conv.1"))
    pairs = [Pair(f"{ours}.weight", f"{weight}.weight", (-1, -1, -1, -1)) for ours, weight, _ in names]
    pairs += [Pair(f"{ours}.bias", f"{bias}.bias", (-1,)) for ours, _, bias in names if bias]
    for ours, theirs in (("b4.fc", "final_linear.0"), ("b4.out", "final_linear.1")):
        pairs += [Pair(f"{ours}.weight", f"{theirs}.weight", (-1, -1)), Pair(f"{ours}.bias", f"{theirs}.bias", (-1,))]
    return pairs


def generator_filters(config: StyleGAN2Config) -> dict[str, float]:
    """Names of the copies of the filter in a generator, with the factor on each.

    Args:
        config ([`StyleGAN2Config`]): its configuration.
    """
    count = len(resolutions(config.img_resolution)) - 1
    blurs = {f"convs.{2 * i}.conv.blur.kernel": 4.0 for i in range(count)}
    return blurs | {f"to_rgbs.{i}.upsample.kernel": 4.0 for i in range(count)}


def discriminator_filters(config: StyleGAN2Config) -> dict[str, float]:
    """Names of the copies of the filter in a discriminator, with the factor on each.

    Args:
        config ([`StyleGAN2Config`]): its configuration.
    """
    count = len(resolutions(config.img_resolution)) - 1
    return {f"convs.{i}.{part}.0.kernel": 1.0 for i in range(1, count + 1) for part in ("conv2", "skip")}


def _generator(tensors: dict[str, Any], mean: Any, rank: int) -> StyleGAN2Generator:
    config = _generator_config(tensors, rank)
    renamed = _renamed(tensors, generator_pairs(config), generator_filters(config), config)
    for name in config.projected_names:
        theirs, ours = f"{layer_names(name)[0]}.conv.modulation", f"synthesis.{name}.affine.projector"
        left, right = tensors[f"{theirs}.U"], tensors[f"{theirs}.V"]
        renamed[f"{ours}.left"], renamed[f"{ours}.right"] = (
            left,
            right.flip(1),
        )  # the first rows of Q(V) are a frame too
        renamed[f"{ours}.map.gain"] = torch.ones(())
        for side in ("left", "right"):
            renamed[f"{ours}.map.{side}.signs"] = torch.ones(rank)
    renamed["mapping.w_avg"] = mean.reshape(-1) if isinstance(mean, Tensor) else torch.zeros(config.w_dim)
    model = load_strictly(StyleGAN2Generator, config, renamed)
    if not isinstance(mean, Tensor):
        with torch.no_grad():
            model.mapping.w_avg.copy_(model.mapping(model.latents(LATENTS_FOR_MEAN))[:, 0].mean(0))
    return model


def _discriminator(tensors: dict[str, Any]) -> StyleGAN2Discriminator:
    places = _numbers(tensors, r"convs\.(\d+)\.skip\.1\.weight")
    resolution = 4 * 2 ** len(places)
    first = _tensor(tensors, "convs.0.0.weight")
    channels = {resolution: first.shape[0]}
    for place in places:
        channels[resolution // 2**place] = _tensor(tensors, f"convs.{place}.skip.1.weight").shape[0]
    extra = _tensor(tensors, "final_conv.0.weight").shape[1] - channels[4]
    config = make_config(
        infer_channels(channels)
        | {
            "img_resolution": resolution,
            "img_channels": first.shape[1],
            "mbstd_channels": extra,
            "resample_filter": _taps(tensors),
        }
    )
    renamed = _renamed(tensors, discriminator_pairs(config), discriminator_filters(config), config)
    return load_strictly(StyleGAN2Discriminator, config, renamed)


def _generator_config(tensors: dict[str, Any], rank: int) -> StyleGAN2Config:
    blocks = _numbers(tensors, r"to_rgbs\.(\d+)\.bias")
    resolution = 4 * 2 ** len(blocks)
    channels = {4: _tensor(tensors, "input.input").shape[1]}
    for i in blocks:
        channels[8 * 2**i] = _tensor(tensors, f"convs.{2 * i}.conv.weight").shape[1]
    z_dim = _tensor(tensors, "style.1.weight").shape[1]
    settings = infer_channels(channels) | {
        "z_dim": z_dim,
        "w_dim": z_dim,
        "img_resolution": resolution,
        "img_channels": _tensor(tensors, "to_rgb1.bias").shape[1],
        "mapping_layers": len(_numbers(tensors, r"style\.(\d+)\.weight", first=1)),
        "resample_filter": _taps(tensors),
    }
    names = [layer.name for layer in make_config(settings).style_layers]
    projected = [name for name in names if f"{layer_names(name)[0]}.conv.modulation.U" in tensors]
    if projected:
        settings |= {
            "projector_layers": projected,
            "projector_rank": rank,
            "projector_gain": "unit",
            "projector_parameterization": "dense",
        }
    return make_config(settings)


def _renamed(
    tensors: dict[str, Any], pairs: Iterable[Pair], filters: Mapping[str, float], config: StyleGAN2Config
) -> dict[str, Tensor]:
    """Tensors under our names; every entry of the checkpoint must be one of them, a filter or a projector."""
    found, used = {}, set(filters)
    for name, gain in filters.items():
        if name in tensors:
            check_filter(name, tensors[name], list(config.resample_filter), gain)
    projected = {f"synthesis.{name}.affine.weight" for name in config.projected_names}
    for pair in pairs:
        if pair.ours in projected:
            used |= {pair.theirs.removesuffix("weight") + letter for letter in "UV"}
            continue
        tensor = _tensor(tensors, pair.theirs)
        fixed = all(side in (-1, n) for n, side in zip(tensor.shape, pair.shape, strict=False))
        if tensor.ndim != len(pair.shape) or not fixed:
            raise ValueError(f"`{pair.theirs}` must have the form {pair.shape}, got {tuple(tensor.shape)}")
        kept = [n for n, side in zip(tensor.shape, pair.shape, strict=True) if side == -1]
        found[pair.ours] = tensor.reshape(kept)
        used.add(pair.theirs)
    if unknown := sorted(tensors.keys() - used):
        raise ValueError(f"the checkpoint has entries that StyleGAN2 does not know: {', '.join(unknown[:5])}")
    return found


def _filled(shape: tuple[int, ...], tensor: Tensor) -> tuple[int, ...]:
    sides = iter(tensor.shape)
    return tuple(next(sides) if side == -1 else side for side in shape)


def _numbers(tensors: dict[str, Any], pattern: str, first: int | None = None) -> list[int]:
    """Numbers in names that match a pattern, without a gap."""
    found = sorted(int(match.group(1)) for name in tensors if (match := re.fullmatch(pattern, name)))
    start = first if first is not None else (found[0] if found else 0)
    if not found or found != list(range(start, start + len(found))) or start > 1:
        raise ValueError(f"the checkpoint must have entries {pattern!r} without a gap, got {found}")
    return found


def _tensor(tensors: dict[str, Any], name: str) -> Tensor:
    tensor = tensors.get(name)
    if not isinstance(tensor, Tensor):
        raise ValueError(f"the checkpoint must have a tensor {name!r}, got {type(tensor).__name__}")
    return tensor


def _taps(tensors: dict[str, Any]) -> list[int] | list[float]:
    """One row of the filter, in whole numbers where that is exact."""
    kernels = [t for name, t in tensors.items() if name.endswith(".kernel") and isinstance(t, Tensor) and t.ndim == 2]
    if not kernels:
        return [1, 3, 3, 1]
    row = kernels[0].double().sum(0)
    row = row / row.abs().min().clamp(min=1e-12)
    whole = row.round()
    if torch.allclose(row, whole, atol=1e-4):
        return [int(n) for n in whole.tolist()]
    return [float(n) for n in row.tolist()]


def _check_writable(config: StyleGAN2Config) -> None:
    wanted = {"c_dim": 0, "img_channels": 3, "z_dim": config.w_dim, "mapping_lr_multiplier": 0.01}
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise ValueError(f"the layout of rosinality's code needs `{name}` = {value}, got {getattr(config, name)}")
    if config.conv_clamp is not None:
        warnings.warn(
            f"rosinality's code does not know `conv_clamp` = {config.conv_clamp}: its images differ where a value is clamped",
            stacklevel=3,
        )
