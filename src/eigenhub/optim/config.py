# SPDX-License-Identifier: Apache-2.0
"""The settings of an optimizer as a JSON file beside the model it has trained."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from eigenhub.files import read_json, write_text
from eigenhub.optim.auon import AuON, HybridAuON
from eigenhub.optim.base import MatrixOptimizer
from eigenhub.optim.dct_adamw import DCTAdamW
from eigenhub.optim.factories import make_optimizer
from eigenhub.optim.trion import Trion


CONFIG_NAME = "optimizer_config.json"
OPTIMIZERS: dict[str, type[MatrixOptimizer]] = {
    "dct_adamw": DCTAdamW,
    "trion": Trion,
    "auon": AuON,
    "hybrid_auon": HybridAuON,
}


@dataclass
class OptimizerConfig:
    """Which optimizer, with which options: enough to make it again for a model.

    Args:
        optimizer (`str`): `"dct_adamw"`, `"trion"`, `"auon"` or `"hybrid_auon"`.
        options (`dict[str, Any]`, *optional*): options of the optimizer and of [`build_param_groups`], plain numbers, strings
            and lists.

    Example:

    ```python
    >>> from torch import nn
    >>> from eigenhub.optim import OptimizerConfig
    >>> config = OptimizerConfig("trion", {"lr": 0.02, "rank": 2, "lr_aux": 1e-3})
    >>> type(config.build(nn.Linear(4, 4))).__name__
    'Trion'
    ```
    """

    optimizer: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"`optimizer` must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        try:
            # Tuples become lists here and not only on the way through a file, so that a loaded copy is equal.
            self.options = json.loads(json.dumps(self.options, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"`options` must hold plain numbers, strings and lists: {error}") from error

    def build(self, model: nn.Module) -> MatrixOptimizer:
        """The optimizer, on the parameter groups of `model`."""
        return make_optimizer(OPTIMIZERS[self.optimizer], model, self.options)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> Path:
        """Write `optimizer_config.json`.

        Args:
            save_directory (`str` or `Path`): folder, made if necessary.
            push_to_hub (`bool`, *optional*, defaults to `False`): also call [`~OptimizerConfig.push_to_hub`].
            kwargs (`Any`): passed on to it; `repo_id` defaults to the name of the folder.

        Returns:
            `Path`: the file.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CONFIG_NAME
        write_text(path, json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return path

    @classmethod
    def from_pretrained(cls, source: str | Path, **kwargs: Any) -> "OptimizerConfig":
        """Read the settings of a saved folder, a file, or a repository on the Hub.

        Args:
            source (`str` or `Path`): where to look.
            kwargs (`Any`): passed on to [`~huggingface_hub.hf_hub_download`], for example `revision`.
        """
        path = Path(source)
        if path.is_dir():
            path = path / CONFIG_NAME
        elif not path.is_file():
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(str(source), CONFIG_NAME, **kwargs))
        try:
            saved = read_json(path, {"optimizer": str, "options": dict})
            return cls(saved["optimizer"], saved["options"])
        except ValueError as error:
            raise ValueError(f"{path} holds no optimizer settings: {error}") from error

    def push_to_hub(self, repo_id: str, commit_message: str = "Upload optimizer settings", **kwargs: Any) -> str:
        """Add the file to a model repository, which is made if necessary.

        Args:
            repo_id (`str`): repository.
            commit_message (`str`, *optional*, defaults to `"Upload optimizer settings"`): message of the commit.
            kwargs (`Any`): `token`, `private` or `revision`.

        Returns:
            `str`: address of the commit.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=kwargs.pop("token", None))
        repo_id = api.create_repo(repo_id, private=kwargs.pop("private", None), exist_ok=True).repo_id
        content = (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()
        return str(
            api.upload_file(
                path_or_fileobj=content,
                path_in_repo=CONFIG_NAME,
                repo_id=repo_id,
                commit_message=commit_message,
                **kwargs,
            )
        )
