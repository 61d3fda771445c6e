# SPDX-License-Identifier: Apache-2.0
"""SORSA adapters as plain LoRA, for stock PEFT and for servers that know nothing of this package."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftConfig, get_peft_model_state_dict
from peft.utils import CONFIG_NAME, load_peft_weights
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm import tqdm

from eigenhub.files import naming, replacing, write_tensors
from eigenhub.linalg import truncated_product_svd
from eigenhub.tuners.sorsa.config import SorsaConfig
from eigenhub.tuners.sorsa.factors import Factors, check_factors
from eigenhub.tuners.sorsa.layer import FROZEN, TRAINED, SorsaLayer


WEIGHTS_NAME = "adapter_model.safetensors"
PREFIX = "base_model.model."


class Change(NamedTuple):
    """The change of one module: `scale * (trained - initial)`."""

    trained: Factors
    initial: Factors
    scale: float


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path (`Path`): the folder.
        rank (`int`): LoRA rank of most modules; others are in the file's `rank_pattern`.
        energy (`float`): share of the squared Frobenius norm of all changes that was kept; 1.0 for the exact export.
        energy_per_module (`dict[str, float]`): the same by module; 1.0 where the change is zero.
    """

    path: Path
    rank: int
    energy: float
    energy_per_module: dict[str, float]


def export_lora(
    model: nn.Module,
    path: str | os.PathLike,
    adapter_name: str = "default",
    dtype: torch.dtype | None = None,
    rank: int | None = None,
    progressbar: bool = False,
) -> ExportReport:
    """Write a SORSA adapter as a LoRA adapter.

    Without `rank` the export is exact and free of any SVD: `lora_A = [V; V0]` and `lora_B = s [U diag(S), -U0 diag(S0)]`, a
    LoRA of rank `2r` with `lora_alpha = 2r`. With `rank` each change is compressed through a QR of both factors and the
    SVD of a `2r x 2r` core, never of the dense change.

    Args:
        model (`nn.Module`): a `PeftModel`, or a transformers model with the adapter loaded.
        path (`str`): folder to write; created if needed.
        adapter_name (`str`, *optional*, defaults to `"default"`): the adapter.
        dtype (`torch.dtype`, *optional*): dtype of the file, by default that of the factors.
        rank (`int`, *optional*): rank of the compressed export, between 1 and `2r`.
        progressbar (`bool`, *optional*, defaults to `False`): show progress over the modules.

    Returns:
        [`ExportReport`] with the energy kept.

    Raises:
        ValueError: no such SORSA adapter, or a rank out of range.
    """
    configs = getattr(model, "peft_config", {})
    config = configs.get(adapter_name)
    if not isinstance(config, SorsaConfig):
        known = sorted(name for name, known in configs.items() if isinstance(known, SorsaConfig))
        raise ValueError(f"`adapter_name`={adapter_name!r} is not a SORSA adapter of this model, those are {known}")
    layers = [m for m in model.modules() if isinstance(m, SorsaLayer) and adapter_name in m.sorsa_U]
    changes = {m.module_name: Change(*m.factors(adapter_name), m.scaling[adapter_name]) for m in layers}
    others = {}
    if config.modules_to_save:
        state = get_peft_model_state_dict(model, adapter_name=adapter_name)
        others = {key: value for key, value in state.items() if ".sorsa_" not in key}
    return write_lora(changes, config, others, path, dtype, rank, progressbar)


def export_checkpoint(checkpoint: str, path: str | os.PathLike, rank: int | None = None) -> ExportReport:
    """Export a saved SORSA adapter without its base model: what `eigenhub export` calls.

    Args:
        checkpoint (`str`): folder or Hub id of a SORSA adapter saved with its initial factors.
        path (`str`): folder to write.
        rank (`int`, *optional*): see [`export_lora`].

    Raises:
        ValueError: not a SORSA adapter, or one saved with `save_init=False`, whose change needs the base weights.
    """
    config = PeftConfig.from_pretrained(checkpoint)
    if not isinstance(config, SorsaConfig):
        raise ValueError(f"`checkpoint`={checkpoint!r} holds a {config.peft_type} adapter, not a SORSA adapter")
    try:
        state = load_peft_weights(checkpoint, device="cpu")
    except SafetensorError as error:
        raise ValueError(f"{checkpoint}: {WEIGHTS_NAME} cannot be read: {error}") from error
    names = [key.removeprefix(PREFIX).removesuffix(".sorsa_U") for key in state if key.endswith(".sorsa_U")]
    if not names or any(f"{PREFIX}{name}.sorsa_U0" not in state for name in names):
        raise ValueError(
            f"`checkpoint`={checkpoint!r} has no initial factors (`save_init=False`): load it onto its base model and call "
            "`export_lora`"
        )
    with naming(checkpoint):
        changes = {name: _saved_change(state, name, config) for name in names}
    others = {key: value for key, value in state.items() if ".sorsa_" not in key}
    return write_lora(changes, config, others, path, rank=rank, progressbar=True)


def _saved_change(state: dict[str, Tensor], name: str, config: SorsaConfig) -> Change:
    keys = [f"{PREFIX}{name}.{key}" for key in (*TRAINED, *FROZEN)]
    if missing := [key for key in keys if key not in state]:
        raise ValueError(f"{WEIGHTS_NAME} of the adapter has no tensor {missing[0]!r}")
    trained, initial = (Factors(*(state[key] for key in part)) for part in (keys[:3], keys[3:]))
    for factors in (trained, initial):
        check_factors(name, *factors)
    alpha = config.alpha_pattern.get(get_pattern_key(list(config.alpha_pattern), name), config.alpha)
    return Change(trained, initial, 1.0 if alpha is None else alpha / len(trained.s))


@torch.no_grad()
def write_lora(
    changes: dict[str, Change],
    config: SorsaConfig,
    others: dict[str, Tensor],
    path: str | os.PathLike,
    dtype: torch.dtype | None = None,
    rank: int | None = None,
    progressbar: bool = False,
) -> ExportReport:
    """Write changes by module name, and tensors that travel along, as a LoRA adapter. See [`export_lora`]."""
    widest = 2 * max(len(change.trained.s) for change in changes.values())
    if rank is not None and not 1 <= rank <= widest:
        raise ValueError(f"`rank` must be between 1 and {widest} (twice the adapter's rank), got {rank}")
    tensors, ranks = dict(others), {}
    norms: dict[str, tuple[float, float]] = {}
    for name, change in tqdm(changes.items(), desc="Exporting to LoRA", disable=not progressbar):
        lora_b, lora_a, norms[name] = _lora_factors(change, rank)
        ranks[name] = lora_a.shape[0]
        for key, factor in (("lora_A", lora_a), ("lora_B", lora_b)):
            tensors[f"{PREFIX}{name}.{key}.weight"] = factor.to(dtype or factor.dtype)
    folder = Path(path)
    main_rank = _most_common(ranks.values())
    _write(folder, tensors, _lora_config(config, ranks, main_rank))
    total, kept = (sum(pair[i] for pair in norms.values()) for i in (0, 1))
    per_module = {name: after / before if before else 1.0 for name, (before, after) in norms.items()}
    return ExportReport(folder, main_rank, kept / total if total else 1.0, per_module)


def _lora_factors(change: Change, rank: int | None) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """`lora_B (m, k)`, `lora_A (k, n)` and the squared norms of the change before and after compression."""
    (u, s, v), (u0, s0, v0), scale = change
    lora_b = torch.cat([u * (scale * s), u0 * (-scale * s0)], dim=1)
    lora_a = torch.cat([v, v0], dim=0)
    wide_b, wide_a = lora_b.double(), lora_a.double()
    if rank is None or rank >= len(lora_a):
        total = ((wide_b.mT @ wide_b) * (wide_a @ wide_a.mT)).sum().item()  # ||B A||^2 without the product
        return lora_b, lora_a, (total, total)
    left, values, right = truncated_product_svd(wide_b, wide_a, min(*lora_b.shape, *lora_a.shape))
    # An untrained adapter has equal halves that cancel: what is left then is rounding, not energy to be lost.
    noise = torch.finfo(wide_b.dtype).eps * len(lora_a) * torch.linalg.norm(wide_b) * torch.linalg.norm(wide_a)
    energies = torch.where(values > noise, values.square(), 0.0)
    root = values[:rank].sqrt()
    norms = (energies.sum().item(), energies[:rank].sum().item())
    return (left[:, :rank] * root).to(lora_b.dtype), (root[:, None] * right[:rank]).to(lora_a.dtype), norms


def _most_common(values: Iterable[int]) -> int:
    listed = sorted(values)
    return max(listed, key=listed.count)


def _lora_config(config: SorsaConfig, ranks: dict[str, int], main_rank: int) -> LoraConfig:
    patterns = {name: r for name, r in ranks.items() if r != main_rank}
    return LoraConfig(
        r=main_rank,
        lora_alpha=main_rank,
        target_modules=config.target_modules,
        exclude_modules=config.exclude_modules,
        layers_to_transform=config.layers_to_transform,
        layers_pattern=config.layers_pattern,
        modules_to_save=config.modules_to_save,
        layer_replication=config.layer_replication,
        fan_in_fan_out=config.fan_in_fan_out,
        rank_pattern=patterns,
        alpha_pattern=dict(patterns),
        task_type=config.task_type,
        base_model_name_or_path=config.base_model_name_or_path,
        revision=config.revision,
        inference_mode=True,
    )


def _write(folder: Path, tensors: dict[str, Tensor], config: LoraConfig) -> None:
    """Both files under other names first: an interrupted export leaves the one that was there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory() as scratch,
        replacing(folder / CONFIG_NAME) as settings,
        replacing(folder / WEIGHTS_NAME) as weights,
    ):
        config.save_pretrained(scratch)
        shutil.copyfile(Path(scratch) / CONFIG_NAME, settings)
        write_tensors(weights, tensors, {"format": "pt"})
