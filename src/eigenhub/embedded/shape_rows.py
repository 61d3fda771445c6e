# SPDX-License-Identifier: Apache-2.0
"""The shapes as a dataset: what a loader of the Hub reads."""

import torch
from datasets import Array3D, Dataset, DatasetDict, Features, List, Value

from eigenhub.embedded.shapes import FACTORS, load_shapes, render_shapes


def load_shape_rows(num_train: int = 4_000, num_test: int = 1_000, size: int = 32, seed: int = 0) -> DatasetDict:
    """
    The first images of [`~eigenhub.embedded.shapes.load_shapes`], the later ones as a test set.

    Args:
        num_train (`int`, *optional*, defaults to 4000): number of training images.
        num_test (`int`, *optional*, defaults to 1000): number of test images.
        size (`int`, *optional*, defaults to 32): pixels of a side.
        seed (`int`, *optional*, defaults to 0): seed of the factors.

    Returns:
        `DatasetDict` with the splits `train` and `test` and, in torch format, the columns `image` (`(3, size, size)` in
        [-1, 1]) and `factors` (six numbers in [0, 1]).

    Example:

    ```python
    >>> from eigenhub.embedded.shape_rows import load_shape_rows

    >>> load_shape_rows(4, 2)["test"][0]["image"].shape
    torch.Size([3, 32, 32])
    ```
    """
    return _splits(load_shapes(num_train + num_test, size, seed), num_train)


def load_disc_rows(num_train: int = 4_000, num_test: int = 1_000, size: int = 16, seed: int = 0) -> DatasetDict:
    """
    As [`load_shape_rows`], with discs only: five factors vary.

    Args:
        num_train (`int`, *optional*, defaults to 4000): number of training images.
        num_test (`int`, *optional*, defaults to 1000): number of test images.
        size (`int`, *optional*, defaults to 16): pixels of a side.
        seed (`int`, *optional*, defaults to 0): seed of the factors.

    Returns:
        `DatasetDict` with the splits `train` and `test` and, in torch format, the columns `image` (`(3, size, size)` in
        [-1, 1]) and `factors` (five numbers in [0, 1]).

    Example:

    ```python
    >>> from eigenhub.embedded.shape_rows import load_disc_rows

    >>> load_disc_rows(4, 2)["test"][0]["factors"].shape
    torch.Size([5])
    ```
    """
    factors = load_shapes(num_train + num_test, size, seed)["factors"][:, : len(FACTORS) - 1]
    image = render_shapes(torch.cat([factors, torch.zeros(len(factors), 1)], 1), size)
    return _splits({"image": image, "factors": factors}, num_train)


def _splits(columns: dict[str, torch.Tensor], num_train: int) -> DatasetDict:
    image, factors = columns["image"], columns["factors"]
    features = Features(
        {
            "image": Array3D(tuple(image.shape[1:]), "float32"),
            "factors": List(Value("float32"), length=factors.shape[1]),
        }
    )
    parts = {"train": slice(0, num_train), "test": slice(num_train, None)}
    return DatasetDict(
        {
            name: Dataset.from_dict(
                {"image": image[rows].numpy(), "factors": factors[rows].numpy()}, features=features
            ).with_format("torch")
            for name, rows in parts.items()
        }
    )
