# SPDX-License-Identifier: Apache-2.0
"""Pushing a finished run: the repository is made before training, the files go up after it."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi


PUSHED = ("*.safetensors", "*config.json", "README.md", ".eval_results/*")


def create_repo(repo_id: str) -> None:
    """Makes the repository unless it exists; called first, so that a missing token shows before the training."""
    HfApi().create_repo(repo_id, exist_ok=True)


def push_folder(folder: Path, repo_id: str, also: Sequence[str] = ()) -> None:
    """
    Uploads weights, configurations, card and results, sub-folders included, checkpoints and logs excepted.

    Args:
        folder (`Path`): folder of the finished run.
        repo_id (`str`): repository on the Hub.
        also (`Sequence[str]`, *optional*, defaults to `()`): further files by name or pattern, such as a tokenizer's.
    """
    HfApi().upload_folder(
        repo_id=repo_id, folder_path=folder, allow_patterns=[*PUSHED, *also], ignore_patterns=["checkpoints/*"]
    )
