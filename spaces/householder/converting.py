# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other codes, read as data, into a folder of safetensors."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

from names import MAX_BYTES, MIB

from eigenhub.hub.space import download_folder
from eigenhub.models.stylegan2 import load_checkpoint


ENDINGS = (".pkl", ".pt", ".pth")


def convert(path: str, rank: int) -> tuple[str, str, dict[str, Any]]:
    """
    A checkpoint as a folder for `from_pretrained`, and the same as an archive.

    Args:
        path (`str`): a `.pkl` of NVIDIA's PyTorch code, or a `.pt` of rosinality's or of the official projector code.
        rank (`int`): rank of official projectors, which their file does not tell.

    Returns:
        Path of the archive, the folder, and what is in it.
    """
    file = Path(path)
    if file.suffix.lower() not in ENDINGS:
        raise ValueError(f"{file.name} must end in one of {', '.join(ENDINGS)}")
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has {file.stat().st_size / MIB:,.0f} MiB, this page takes up to {MAX_BYTES // MIB}")
    networks = load_checkpoint(file, rank=rank)
    parent = download_folder()
    folder = parent / file.stem
    networks.save_pretrained(folder)
    return _packed(folder), str(folder), _report(networks)


def malicious_file() -> str:
    """A pickle that would run a command in any reader of pickles; the command is harmless."""
    path = download_folder() / "malicious.pkl"
    path.write_bytes(pickle.dumps(_Command()))
    return str(path)


class _Command:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("echo this file has run a command",)


def _packed(folder: Path) -> str:
    """Stored, not compressed: weights do not shrink."""
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent))
    return str(path)


def _report(networks: Any) -> dict[str, Any]:
    model = networks.best_generator
    config = model.config
    return {
        "networks": [
            name for name in ("generator_ema", "generator", "discriminator") if getattr(networks, name) is not None
        ],
        "resolution": config.img_resolution,
        "channels": config.img_channels,
        "classes": config.c_dim,
        "parameters": sum(p.numel() for p in model.parameters()),
        "projected_layers": config.projected_names,
        "rank": config.projector_rank if config.projected_names else None,
    }
