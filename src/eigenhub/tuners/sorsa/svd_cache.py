# SPDX-License-Identifier: Apache-2.0
"""A file of precomputed SVDs of a base model: computed once, it serves every adapter of any rank up to its own."""

import json
import os
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from peft.tuners.tuners_utils import BaseTuner, _maybe_include_all_linear_layers, check_target_module_exists
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, resolve_quantization_backend
from torch import Tensor, nn
from tqdm import tqdm
from transformers.pytorch_utils import Conv1D

from eigenhub.files import check_entries, naming, open_tensors, write_tensors
from eigenhub.tuners.sorsa.config import SorsaConfig
from eigenhub.tuners.sorsa.factors import (
    Factors,
    check_factors,
    check_fingerprint,
    factors_from_svd,
    fingerprint,
    warn_if_deficient,
)


CACHE_NAME = "svd_cache.safetensors"
FORMAT = "eigenhub-svd-cache-1"


def build_svd_cache(
    model: nn.Module,
    path: str | os.PathLike,
    r_max: int = 128,
    target_modules: list[str] | str | None = None,
    svd_driver: str = "auto",
    svd_niter: int = 6,
    svd_oversample: int = 32,
    seed: int = 0,
    progressbar: bool = True,
) -> Path:
    """Compute the truncated SVD of every target weight and write it to one safetensors file.

    Args:
        model (`nn.Module`): the base model, without adapters.
        path (`str`): a folder (the file is then called `svd_cache.safetensors`) or a file name ending in `.safetensors`.
        r_max (`int`, *optional*, defaults to 128): triplets to keep, fewer where a weight is smaller.
        target_modules (`list[str] | str`, *optional*): as in [`SorsaConfig`].
        svd_driver (`str`, *optional*, defaults to `"auto"`): as in [`SorsaConfig`].
        svd_niter (`int`, *optional*, defaults to 6): Krylov steps of the randomized driver.
        svd_oversample (`int`, *optional*, defaults to 32): extra columns of the randomized driver.
        seed (`int`, *optional*, defaults to 0): seed of the randomized driver.
        progressbar (`bool`, *optional*, defaults to `True`): show progress over the weights.

    Returns:
        The path of the file. It is written under another name first, so that an interrupted run leaves no torn cache.

    Raises:
        ValueError: no module matches, or a weight is not finite.
    """
    config = SorsaConfig(
        r=r_max,
        target_modules=target_modules,
        svd_driver=svd_driver,
        svd_niter=svd_niter,
        svd_oversample=svd_oversample,
        seed=seed,
    )
    targets = _matching_modules(model, config)
    tensors: dict[str, Tensor] = {}
    prints: dict[str, list[float]] = {}
    for name, module in tqdm(targets.items(), desc="SVD", disable=not progressbar):
        weight = _dense_weight(module)
        factors = factors_from_svd(name, weight, min(r_max, *weight.shape), config)
        tensors.update({f"{name}.{key}": t.cpu().contiguous() for key, t in zip("USV", factors, strict=True)})
        prints[name] = fingerprint(weight, quantized=resolve_quantization_backend(module) is not None)
    base = getattr(model, "config", None)
    metadata = {
        "format": FORMAT,
        "base_model": str(getattr(base, "_name_or_path", "")),
        "revision": str(getattr(base, "_commit_hash", None) or ""),
        "r_max": str(r_max),
        "driver": svd_driver,
        "fingerprints": json.dumps(prints),
    }
    return _write(tensors, metadata, Path(path))


def _write(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> Path:
    target = path if path.suffix == ".safetensors" else path / CACHE_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(target, tensors, metadata)
    return target


def _matching_modules(model: nn.Module, config: SorsaConfig) -> dict[str, nn.Linear | Conv1D]:
    """The modules that a [`SorsaModel`] with this configuration would adapt."""
    if config.target_modules is None:
        model_type = BaseTuner.get_model_config(model).get("model_type")
        default = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(str(model_type))
        if default is None:
            raise ValueError(f"`target_modules` must be given: PEFT has no default for {model_type!r}")
        config.target_modules = list(default)
    _maybe_include_all_linear_layers(config, model)
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and check_target_module_exists(config, name)
    }
    if not found:
        raise ValueError(f"`target_modules`={config.target_modules!r} matches no linear layer of the model")
    return found


def _dense_weight(module: nn.Linear | Conv1D) -> Tensor:
    backend = resolve_quantization_backend(module)
    weight = module.weight.data if backend is None else backend.get_base_weight(module)
    return weight.mT if isinstance(module, Conv1D) else weight


def cached_factors(config: SorsaConfig, name: str, rank: int, weight: Tensor, quantized: bool = False) -> Factors:
    """Factors of one module from the configured cache, cut to `rank` and checked against the weight.

    Raises:
        ValueError: the cache lacks the module or has too few triplets, belongs to another base model, or was made by the
            randomized driver while `save_init=False` asks for exact factors.
    """
    path = resolve_cache(str(config.svd_cache))
    metadata = _metadata(path)
    if not config.save_init and metadata["driver"] == "randomized":
        raise ValueError(
            f"`svd_cache`={config.svd_cache!r} was made by the randomized driver, `save_init=False` needs exact factors"
        )
    prints = _fingerprints(path, metadata["fingerprints"])
    stored = _stored_name(name, prints)
    if stored is None:
        raise ValueError(
            f"`svd_cache`={config.svd_cache!r} has no factors for module {name!r}: build it with these targets"
        )
    check_fingerprint(name, prints[stored], weight, quantized)
    with open_tensors(path, str(weight.device)) as file:
        u, s, v = (file.get_tensor(f"{stored}.{key}") for key in "USV")
    with naming(path):
        check_factors(name, u, s, v)
    if rank > len(s):
        raise ValueError(
            f"`svd_cache`={config.svd_cache!r} keeps {len(s)} triplets of module {name!r}, `r`={rank} needs more"
        )
    factors = Factors(u[:, :rank], s[:rank], v[:rank])
    if factors.u.shape[0] != weight.shape[0] or factors.v.shape[1] != weight.shape[1]:
        raise ValueError(
            f"`svd_cache`={config.svd_cache!r}: factors of {name!r} do not fit a weight of {tuple(weight.shape)}"
        )
    warn_if_deficient(name, factors.s, weight.shape)
    return factors


def _fingerprints(path: str, text: str) -> dict[str, list[float]]:
    with naming(path):
        prints = json.loads(text)
        numbers = prints.values() if isinstance(prints, dict) else [None]
        if not all(isinstance(row, list) and all(isinstance(x, float | int) for x in row) for row in numbers):
            raise ValueError("`fingerprints` must be a row of numbers for each module")
    return prints


def _stored_name(name: str, stored: Collection[str]) -> str | None:
    """The name of a module in the cache; models with and without a head differ by a prefix such as `vit.`."""
    if name in stored:
        return name
    alike = [other for other in stored if other.endswith(f".{name}") or name.endswith(f".{other}")]
    return alike[0] if len(alike) == 1 else None


def resolve_cache(location: str) -> str:
    """Local path of a cache given as a file, a folder or a Hub id.

    Raises:
        ValueError: nothing is there.
    """
    path = Path(location)
    if path.is_file():
        return str(path)
    if path.is_dir():
        if (path / CACHE_NAME).is_file():
            return str(path / CACHE_NAME)
        raise ValueError(f"`svd_cache`={location!r} is a folder without {CACHE_NAME}")
    try:
        return hf_hub_download(location, CACHE_NAME)
    except Exception as error:
        raise ValueError(
            f"`svd_cache`={location!r} is neither a file, a folder nor a Hub repository with {CACHE_NAME}"
        ) from error


@lru_cache(maxsize=4)
def _read_metadata(path: str, stamp: int) -> dict[str, Any]:
    with open_tensors(path) as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(f"`svd_cache`={path!r} is not a cache of singular value decompositions (format {FORMAT})")
    with naming(path):
        check_entries(metadata, {"driver": str, "fingerprints": str})
    return metadata


def _metadata(path: str) -> dict[str, Any]:
    return _read_metadata(path, os.stat(path).st_mtime_ns)
