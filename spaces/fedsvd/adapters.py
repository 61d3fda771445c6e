# SPDX-License-Identifier: Apache-2.0
"""Adapters that a visitor names or uploads. Only safetensors and JSON are read: nothing in them can run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from embedded_adapters import embedded_folder
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError
from names import ADAPTERS, MAX_BYTES, MAX_RANK
from safetensors import SafetensorError, safe_open
from torch import Tensor

from eigenhub.federated import FedSVDConfig, PrivacyLedger, pair_lora_keys
from eigenhub.federated.config import CONFIG_NAME
from eigenhub.federated.lora_keys import as_matrix
from eigenhub.federated.privacy_ledger import LEDGER_NAME
from eigenhub.files import read_json


WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
MIB = 2**20


@dataclass(frozen=True)
class Adapter:
    """
    A saved LoRA adapter.

    Args:
        name (`str`): what the visitor called it.
        state (`dict[str, Tensor]`): its tensors.
        metadata (`dict[str, str]`): of its file.
        lora (`dict[str, Any]`): its `adapter_config.json`; empty for a file without one.
        run (`FedSVDConfig`, *optional*): how it was trained, if it says so.
        ledger (`PrivacyLedger`, *optional*): what its clients have spent, if it says so.
    """

    name: str
    state: dict[str, Tensor]
    metadata: dict[str, str]
    lora: dict[str, Any]
    run: FedSVDConfig | None = None
    ledger: PrivacyLedger | None = None


def load_adapter(name: str) -> Adapter:
    """
    An adapter with all that lies beside it.

    Args:
        name (`str`): an embedded name, a Hub id or a folder.

    Raises:
        OSError: it is not there.
        ValueError: it is too large, or no plain LoRA adapter.
    """
    folder = embedded_folder(name) if name in ADAPTERS else Path(name) if Path(name).is_dir() else hub_folder(name)
    state, metadata = read_weights(folder / WEIGHTS)
    return Adapter(
        name,
        state,
        metadata,
        read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {},
        FedSVDConfig.from_pretrained(folder) if (folder / CONFIG_NAME).is_file() else None,
        PrivacyLedger.load(folder) if (folder / LEDGER_NAME).is_file() else None,
    )


def load_file(path: str | Path) -> Adapter:
    """The adapter of a single file, `adapter_model.safetensors` under any name."""
    state, metadata = read_weights(Path(path))
    return Adapter(Path(path).name, state, metadata, {})


def hub_folder(repo_id: str) -> Path:
    """Download what belongs to an adapter; its size is asked for first."""
    try:
        folder = Path(hf_hub_download(repo_id, SETTINGS)).parent
        size = get_hf_file_metadata(hf_hub_url(repo_id, WEIGHTS)).size or 0
        check_size(size)
        hf_hub_download(repo_id, WEIGHTS)
    except EntryNotFoundError as error:
        raise ValueError(f"{repo_id} holds no {SETTINGS} with {WEIGHTS}; pickled weights are not opened") from error
    except httpx.HTTPError as error:
        raise OSError(str(error)) from error
    for name in (CONFIG_NAME, LEDGER_NAME):
        try:
            hf_hub_download(repo_id, name)
        except EntryNotFoundError:  # an adapter of other making
            continue
    return folder


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file that holds a plain LoRA adapter."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name} is no .safetensors file; pickled weights (.bin, .pt) are not opened")
    if not path.is_file():
        raise ValueError(f"there is no {path.name}; pickled weights are not opened")
    check_size(path.stat().st_size)
    try:
        with safe_open(str(path), "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path.name} is no safetensors file inside, or a damaged one ({error})") from error
    check_ranks(state)
    return state, metadata


def check_size(size: int) -> None:
    """Raise `ValueError` for a file that is too large."""
    if size > MAX_BYTES:
        raise ValueError(f"it has {size / MIB:,.0f} MiB, this page takes up to {MAX_BYTES // MIB}")


def check_ranks(state: dict[str, Tensor]) -> None:
    """Raise `ValueError` unless every layer can be refactored in good time."""
    for name, pair in pair_lora_keys(state).items():
        rank, width = as_matrix(state[pair.A]).shape
        if rank > min(MAX_RANK, width):
            raise ValueError(f"layer {name} has rank {rank}; this page takes up to {min(MAX_RANK, width)} there")
