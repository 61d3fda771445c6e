# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of stylegan2-ada-pytorch (and the StyleGAN2 ones of stylegan3): read safely, and written as tensors.

The names of tensors are those of this package, apart from copies of the filter.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eigenhub.files import naming, replacing
from eigenhub.models.stylegan2.format_loading import (
    FILTER_NAME,
    check_filter,
    is_torch_file,
    load_strictly,
    make_config,
    read_tensors,
)
from eigenhub.models.stylegan2.modeling_stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from eigenhub.models.stylegan2.networks import StyleGAN2Networks
from eigenhub.models.stylegan2.projected_affine import ProjectedAffine
from eigenhub.models.stylegan2.projectors import affine_of
from eigenhub.models.stylegan2.restricted_pickle import PersistentObject, read_pickle


KEYS = {"G_ema": "generator_ema", "G": "generator", "D": "discriminator"}
MAX_DEPTH = 16

SAME = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
SYNTHESIS = ("channel_base", "channel_max", "num_fp16_res", "conv_clamp", "resample_filter")
MAPPING = {"num_layers": "mapping_layers", "lr_multiplier": "mapping_lr_multiplier", "w_avg_beta": "w_avg_beta"}
EPILOGUE = {"mbstd_group_size": "mbstd_group_size", "mbstd_num_channels": "mbstd_channels"}
#: Settings that have one value here, or none that matters to what is computed.
FIXED: dict[str, tuple[Any, ...]] = {
    "architecture": ("skip", "resnet", None),
    "activation": ("lrelu",),
    "use_noise": (True,),
    "embed_features": (None,),
    "layer_features": (None,),
    "num_ws": (None,),
}
IGNORED = ("freeze_layers", "fp16_channels_last", "fused_modconv_default", "class_name")
GENERATOR_ARGUMENTS = (*SAME, "mapping_kwargs", "synthesis_kwargs")
DISCRIMINATOR_ARGUMENTS = ("c_dim", "img_resolution", "img_channels", "architecture", *SYNTHESIS[:-1])


def load_nvidia(path: str | os.PathLike) -> StyleGAN2Networks:
    """The networks of a `.pkl` of NVIDIA's PyTorch code, or of a file written by [`save_nvidia`].

    The pickle is read as data: it brings the source of its classes along, which is neither imported nor run.

    Args:
        path (`str`): the file.

    Returns:
        [`StyleGAN2Networks`].

    Raises:
        ValueError: truncated or malicious files, TensorFlow pickles, other networks than StyleGAN2, unknown settings.
    """
    found = read_tensors(path) if is_torch_file(path) else read_pickle(path)
    if not isinstance(found, dict) or not any(isinstance(found.get(key), Mapping | PersistentObject) for key in KEYS):
        what = f"the keys {sorted(map(str, found))}" if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{os.fspath(path)} must hold one of {', '.join(KEYS)}, got {what}")
    with naming(path):
        return StyleGAN2Networks(**{n: _network(found[k], k) for k, n in KEYS.items() if found.get(k) is not None})


def save_nvidia(networks: StyleGAN2Networks, path: str | os.PathLike) -> None:
    """Writes the tensors of networks under NVIDIA's names, for `load_state_dict` there, with the arguments of their classes.

    A pickle of theirs would have to hold their source code; this is a file of `torch.save` with
    `{"G_ema": {"init_kwargs": ..., "state_dict": ...}, ...}`. Projectors are folded.

    Args:
        networks ([`StyleGAN2Networks`]): what to write.
        path (`str`): the file.
    """
    written = {}
    for key, name in KEYS.items():
        model = getattr(networks, name)
        if model is not None:
            written[key] = {"init_kwargs": nvidia_kwargs(model), "state_dict": nvidia_state_dict(model)}
    if not written:
        raise ValueError("`networks` must hold at least one network, got none")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        torch.save(written, draft)


def nvidia_state_dict(model: StyleGAN2Generator | StyleGAN2Discriminator) -> dict[str, Tensor]:
    """The tensors of a network under NVIDIA's names.

    Args:
        model ([`StyleGAN2Generator`] or [`StyleGAN2Discriminator`]): the network; projectors are folded in what is returned.
    """
    tensors = folded_state_dict(model)
    filters = {name: tensors.pop(name) for name in list(tensors) if name.endswith(FILTER_NAME)}
    (kernel,) = filters.values()
    layers = (
        ("conv0", "conv1") if isinstance(model, StyleGAN2Generator) else ("fromrgb", "conv0", "conv1", "skip", "conv")
    )
    places = {name.rpartition(".")[0] for name in tensors if name.endswith(".weight")}
    places = {place for place in places if place.rpartition(".")[2] in layers}
    blocks = {place.rpartition(".")[0] for place in places} - {"b4"}  # the last block of D has none of its own
    return tensors | {f"{place}.{FILTER_NAME}": kernel.clone() for place in sorted(places | blocks)}


def folded_state_dict(model: StyleGAN2Generator | StyleGAN2Discriminator) -> dict[str, Tensor]:
    """Tensors of a network, in float32 on the CPU, as if its projectors were folded.

    Args:
        model ([`StyleGAN2Generator`] or [`StyleGAN2Discriminator`]): the network, which stays as it is.
    """
    tensors = {name: t.detach().float().cpu() for name, t in model.state_dict().items() if ".projector." not in name}
    for name in model.config.projected_names if isinstance(model, StyleGAN2Generator) else ():
        affine = affine_of(model, name)
        if isinstance(affine, ProjectedAffine):
            tensors[f"synthesis.{name}.affine.weight"] = affine.folded().weight.detach().float().cpu()
    return {name: t.clone().contiguous() for name, t in tensors.items()}


def nvidia_kwargs(model: StyleGAN2Generator | StyleGAN2Discriminator) -> dict[str, Any]:
    """The arguments of NVIDIA's class for a network.

    Args:
        model ([`StyleGAN2Generator`] or [`StyleGAN2Discriminator`]): the network.
    """
    config = model.config
    shared = {name: getattr(config, name) for name in SYNTHESIS}
    mapping = {theirs: getattr(config, ours) for theirs, ours in MAPPING.items()}
    if isinstance(model, StyleGAN2Generator):
        return {name: getattr(config, name) for name in SAME} | {"mapping_kwargs": mapping, "synthesis_kwargs": shared}
    taps = shared.pop("resample_filter")
    return {
        **{name: getattr(config, name) for name in ("c_dim", "img_resolution", "img_channels", "cmap_dim")},
        **shared,
        "block_kwargs": {"resample_filter": taps},
        "mapping_kwargs": {"num_layers": config.cmap_layers, "lr_multiplier": config.mapping_lr_multiplier},
        "epilogue_kwargs": {theirs: getattr(config, ours) for theirs, ours in EPILOGUE.items()},
    }


def _network(network: Any, key: str) -> Any:
    settings, tensors = _contents(network, key)
    model_class: Any = StyleGAN2Discriminator if key == "D" else StyleGAN2Generator
    if any(name.startswith("synthesis.input.") for name in tensors):
        raise ValueError("the checkpoint is a StyleGAN3 generator, which is not supported: only StyleGAN2 is")
    judges = model_class is StyleGAN2Discriminator
    config = make_config(_settings(settings, DISCRIMINATOR_ARGUMENTS if judges else GENERATOR_ARGUMENTS, judges))
    kept = {}
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] == FILTER_NAME:
            check_filter(name, tensor, list(config.resample_filter))
        else:
            kept[name] = tensor
    return load_strictly(model_class, config, kept)


def _settings(given: dict[str, Any], positions: tuple[str, ...], judges: bool) -> dict[str, Any]:
    """Arguments of NVIDIA's classes as settings of a [`StyleGAN2Config`]."""
    given = dict(zip(positions, given.pop("", ()), strict=False)) | given
    renamed = dict(EPILOGUE) | dict.fromkeys([*SAME, *SYNTHESIS, "cmap_dim"]) | MAPPING
    flat = {key: value for key, value in given.items() if not key.endswith("_kwargs")}
    for group in [value for key, value in given.items() if key.endswith("_kwargs")]:
        flat |= dict(group)
    settings: dict[str, Any] = {}
    for key, value in flat.items():
        if key in IGNORED or (key in FIXED and value in FIXED[key]):
            continue
        if key in FIXED or key not in renamed:
            raise ValueError(f"the checkpoint was made with {key}={value!r}, which is not supported")
        settings[renamed[key] or key] = value
    if judges and "mapping_layers" in settings:
        settings["cmap_layers"] = settings.pop("mapping_layers")
    if "mbstd_group_size" in settings and settings["mbstd_group_size"] is None:
        settings["mbstd_group_size"] = 2**30  # the whole batch
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _contents(network: Any, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments (positional ones under an empty name) and tensors of a network in a file."""
    if isinstance(network, PersistentObject):
        if network.class_name != ("Discriminator" if key == "D" else "Generator"):
            raise ValueError(f"`{key}` of the checkpoint is a {network.class_name}, not a StyleGAN2 network")
        arguments = dict(network.state.get("_init_kwargs") or {})
        return arguments | {"": tuple(network.state.get("_init_args") or ())}, _tensors_below(network)
    if not isinstance(network, Mapping) or not {"init_kwargs", "state_dict"} <= network.keys():
        raise ValueError(f"`{key}` of the checkpoint must be a network, got {type(network).__name__}")
    return dict(network["init_kwargs"]), dict(network["state_dict"])


def _tensors_below(root: PersistentObject) -> dict[str, Tensor]:
    """Parameters and buffers by dotted name."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        prefix, module = waiting.pop()
        if not isinstance(module, PersistentObject) or id(module) in seen or prefix.count(".") > MAX_DEPTH:
            raise ValueError(f"module {prefix!r} of the checkpoint is shared, too deep or no module")
        seen.add(id(module))
        for group in ("_parameters", "_buffers"):
            for name, tensor in (module.state.get(group) or {}).items():
                if isinstance(tensor, Tensor):
                    found[f"{prefix}{name}"] = tensor
                elif tensor is not None:
                    raise ValueError(
                        f"`{prefix}{name}` of the checkpoint must be a tensor, got {type(tensor).__name__}"
                    )
        children = (module.state.get("_modules") or {}).items()
        waiting += [(f"{prefix}{name}.", child) for name, child in children if child is not None]
    return found
