# SPDX-License-Identifier: Apache-2.0
"""State of SenD beside the weights of a checkpoint: tensors, and settings that people can read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from eigenhub.files import check_entries, naming, read_json, read_tensors, write_tensors
from eigenhub.training.send.config import CONFIG_NAME, SenDConfig


STATE_NAME = "send_state.safetensors"
#: Settings that a resumed run may change.
FREE_ON_RESUME = ("track_batch_size", "stop_loss", "stop_score")


def write_state(folder: str | Path, config: SenDConfig, tensors: Mapping[str, Tensor], **more: Any) -> None:
    """Writes both files, each whole or not at all.

    Args:
        folder (`str` or `Path`): made if it is not there.
        config (`SenDConfig`): settings.
        tensors (`Mapping[str, Tensor]`): on the CPU.
        more (`Any`): JSON entries beside the settings.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_tensors(Path(folder) / STATE_NAME, tensors)
    config.save(folder, **more)


def read_state(folder: str | Path, config: SenDConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads both files and checks that the run goes on as it began.

    Args:
        folder (`str` or `Path`): of a checkpoint.
        config (`SenDConfig`): settings of the run that goes on.

    Returns:
        tensors and JSON entries.

    Raises:
        ValueError: a file is missing, or a setting is another one.
    """
    folder = Path(folder)
    for name in (STATE_NAME, CONFIG_NAME):
        if not (folder / name).is_file():
            raise ValueError(f"the run cannot go on without its masks: {folder} has no {name}")
    entries = read_json(folder / CONFIG_NAME, {"refreshes": list})
    for name, value in config.to_dict().items():
        if name not in FREE_ON_RESUME and entries.get(name) != value:
            raise ValueError(f"`{name}` must be {entries.get(name)!r} as in {folder}, got {value!r}")
    tensors = read_tensors(folder / STATE_NAME)
    with naming(folder / STATE_NAME):
        check_entries(tensors, {"checkpoints": Tensor, "dropped": Tensor})
        if tensors["dropped"].tolist() != entries.get("dropped"):
            raise ValueError(f"`dropped` is not that of {CONFIG_NAME}: the two were not written together")
    return tensors, entries
