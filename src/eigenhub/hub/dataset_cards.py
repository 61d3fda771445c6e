# SPDX-License-Identifier: Apache-2.0
"""Dataset repositories: parquet files and a card that says how the rows were made, what they hold and whose they are."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from huggingface_hub import DatasetCard, HfApi

from eigenhub.files import read_text, write_text
from eigenhub.hub.cards import MARKER, CardError, card_problems, installed_versions, render_template
from eigenhub.hub.datasets import FOLDER, EmbeddedDataset, get_dataset
from eigenhub.hub.publish import publish_folder
from eigenhub.hub.resources import find


if TYPE_CHECKING:
    from datasets import DatasetDict, DatasetInfo

TEMPLATE = f"{FOLDER}/README.md.jinja"
REQUIRED_KEYS = ("pretty_name", "license", "task_categories", "size_categories", "configs", "dataset_info")
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def save_dataset(dataset: EmbeddedDataset | str, folder: str | os.PathLike, *, repo_id: str | None = None) -> Path:
    """
    Make the rows and write them as parquet files with their card: `load_dataset(folder)` reads them.

    Args:
        dataset (`EmbeddedDataset` or `str`): the dataset or its slug.
        folder (`str`): where to write; it must not exist or be empty.
        repo_id (`str`, *optional*, defaults to the folder): what the card passes to `load_dataset`.

    Returns:
        `Path`: the folder.

    Example:

    ```python
    >>> from tempfile import TemporaryDirectory
    >>> from datasets import load_dataset
    >>> from eigenhub.hub.dataset_cards import save_dataset

    >>> with TemporaryDirectory() as folder:
    ...     rows = load_dataset(str(save_dataset("facts", folder)), split="test", keep_in_memory=True)
    >>> rows.num_rows
    1120
    ```
    """
    dataset, folder = _known(dataset), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`folder` must be a folder that does not exist yet or is empty, got {str(folder)!r}")
    data = {config: dataset.load(config) for config in dataset.configs}
    for config, splits in data.items():
        for split, rows in splits.items():
            path = folder / parquet_file(config, split)
            path.parent.mkdir(parents=True, exist_ok=True)
            rows.with_format(None).to_parquet(path)
    card = render_dataset_card(dataset, data, repo_id=repo_id or str(folder), folder=folder)
    write_text(folder / "README.md", str(card))
    return folder


def push_dataset(
    dataset: EmbeddedDataset | str,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
) -> str:
    """
    Make the rows and push them with their card: `load_dataset(repo_id)` reads them.

    Args:
        dataset (`EmbeddedDataset` or `str`): the dataset or its slug.
        repo_id (`str`): repository on the Hub, made if necessary.
        private (`bool`, *optional*): of a new repository.
        token (`str` or `bool`, *optional*): by default the one of `hf auth login`.
        revision (`str`, *optional*): branch.

    Returns:
        `str`: address of the commit.
    """
    dataset = _known(dataset)
    # first, so that a missing token shows before the rows are made; the answer has the name of the user in front
    repo = HfApi(token=token).create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True).repo_id
    with TemporaryDirectory() as folder:
        save_dataset(dataset, folder, repo_id=repo)
        return publish_folder(folder, repo, "dataset", token=token, revision=revision)


def render_dataset_card(
    dataset: EmbeddedDataset | str, data: "Mapping[str, DatasetDict]", *, repo_id: str, folder: Path
) -> DatasetCard:
    """
    The card of a dataset, with sizes measured on its rows and files.

    Args:
        dataset (`EmbeddedDataset` or `str`): the dataset or its slug.
        data (`Mapping[str, DatasetDict]`): rows by configuration.
        repo_id (`str`): what the card passes to `load_dataset`.
        folder (`Path`): where the parquet files lie.
    """
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs

    dataset = _known(dataset)
    count = sum(rows.num_rows for splits in data.values() for rows in splits.values())
    text = render_template(
        read_text(find(TEMPLATE)),
        {
            "dataset": dataset,
            "data": data,
            "first": next(iter(data)),
            "repo_id": repo_id,
            "size_category": size_category(count),
            "versions": _versions(dataset),
            "marker": MARKER,
        },
    )
    card = DatasetCard(text)
    DatasetInfosDict({config: _info(config, splits, folder) for config, splits in data.items()}).to_dataset_card_data(
        card.data
    )
    MetadataConfigs(_files(data)).to_dataset_card_data(card.data)
    if problems := card_problems(str(card), REQUIRED_KEYS):
        raise CardError("; ".join(problems))
    return card


def parquet_file(config: str, split: str) -> str:
    """Path of a split in the repository, as `Dataset.push_to_hub` would choose it.

    Args:
        config (`str`): configuration.
        split (`str`): split.
    """
    return f"{'data' if config == 'default' else config}/{split}-00000-of-00001.parquet"


def size_category(count: int) -> str:
    """The Hub's name for a number of rows.

    Args:
        count (`int`): number of rows, below a million.
    """
    return next(name for limit, name in SIZES.items() if count < limit)


def _known(dataset: EmbeddedDataset | str) -> EmbeddedDataset:
    return get_dataset(dataset) if isinstance(dataset, str) else dataset


def _info(config: str, splits: "DatasetDict", folder: Path) -> "DatasetInfo":
    from datasets import DatasetInfo
    from datasets.splits import SplitDict, SplitInfo

    sizes = SplitDict()
    for split, rows in splits.items():
        sizes.add(SplitInfo(split, num_bytes=rows.data.nbytes, num_examples=rows.num_rows))
    return DatasetInfo(
        features=next(iter(splits.values())).features,
        splits=sizes,
        download_size=sum((folder / parquet_file(config, split)).stat().st_size for split in splits),
        dataset_size=sum(rows.data.nbytes for rows in splits.values()),
    )


def _files(data: "Mapping[str, DatasetDict]") -> dict[str, dict[str, object]]:
    """Where the splits of each configuration lie; the first one is what `load_dataset` reads unless told otherwise."""
    found: dict[str, dict[str, object]] = {}
    for config, splits in data.items():
        files = [{"split": split, "path": parquet_file(config, split)} for split in splits]
        found[config] = {"data_files": files} | ({} if found or config == "default" else {"default": True})
    return found


def _versions(dataset: EmbeddedDataset) -> dict[str, str]:
    python = {"python": platform.python_version()} if "python" in dataset.packages else {}
    return python | installed_versions(["eigenhub", *dataset.packages])
