# SPDX-License-Identifier: Apache-2.0
"""Pushing folders to the Hub: a Space, a dataset, an exported model."""

from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, SpaceCard

from eigenhub.hub.resources import GALLERY, find
from eigenhub.methods import Method, get_method


LEFT_OUT = ("__pycache__/*", "**/__pycache__/*", "*.pyc", ".gradio/*")


def publish_folder(
    folder: str | Path,
    repo_id: str,
    repo_type: Literal["model", "dataset", "space"] = "model",
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    space_sdk: str | None = None,
) -> str:
    """
    Push everything in a folder; the repository is made if necessary.

    Args:
        folder (`str` or `Path`): what to push.
        repo_id (`str`): repository on the Hub.
        repo_type (`str`, *optional*, defaults to `"model"`): `"model"`, `"dataset"` or `"space"`.
        private (`bool`, *optional*): of a new repository.
        token (`str` or `bool`, *optional*): by default the one of `hf auth login`.
        revision (`str`, *optional*): branch.
        space_sdk (`str`, *optional*): of a new Space.

    Returns:
        `str`: address of the commit.
    """
    api = HfApi(token=token)
    made = api.create_repo(repo_id, repo_type=repo_type, private=private, space_sdk=space_sdk, exist_ok=True)
    commit = api.upload_folder(
        repo_id=made.repo_id,
        repo_type=repo_type,
        folder_path=folder,
        revision=revision,
        commit_message=f"Upload {repo_type} with eigenhub",
        ignore_patterns=list(LEFT_OUT),
    )
    return str(commit.commit_url)


def publish_space(
    method: Method | str,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
) -> str:
    """
    Push the Space of a method, or the gallery of all. The Hub builds it from its `requirements.txt`, which asks the package index for `eigenhub`.

    Args:
        method (`Method` or `str`): the method, its slug, or `"gallery"`.
        repo_id (`str`): Space on the Hub, made if necessary.
        private (`bool`, *optional*): of a new Space.
        token (`str` or `bool`, *optional*): by default the one of `hf auth login`.
        revision (`str`, *optional*): branch.

    Returns:
        `str`: address of the commit.
    """
    if method == "gallery":
        folder = find(GALLERY)
    else:
        folder = find((get_method(method) if isinstance(method, str) else method).space)
    sdk = SpaceCard((folder / "README.md").read_text(encoding="utf-8")).data.get("sdk")
    return publish_folder(
        folder, repo_id, "space", private=private, token=token, revision=revision, space_sdk=str(sdk)
    )
