# SPDX-License-Identifier: Apache-2.0
"""Images by item id: the embedded glyphs, or any labelled image data set, with views that repeat on a resume."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenhub.training.options import EMBEDDED


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_SCALE, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Split:
    """One split: where its images come from, and what is known of each.

    Args:
        ids (`list[str]`): stable id of every item.
        labels (`Tensor` of shape `(items,)`): classes.
        images (`Any`): indexable; tensors, or rows of a data set.
        classes (`int`): number of classes.
        image_column (`str`, *optional*): column of the image in a row of `images`.
        image_size (`int`, *optional*, defaults to 224): side of what the model sees.
    """

    ids: list[str]
    labels: Tensor
    images: Any
    classes: int
    image_column: str | None = None
    image_size: int = 224

    def __len__(self) -> int:
        return len(self.ids)

    def view(self, row: int, augment: str = "none", key: tuple[int, ...] = ()) -> Tensor:
        """Pixels of one item, `[channels, height, width]`; the same for the same key.

        Args:
            row (`int`): which item.
            augment (`str`, *optional*, defaults to `"none"`): `"none"`, `"flip"` or `"crop"`.
            key (`tuple[int, ...]`, *optional*): what the random choices depend on besides the row.
        """
        if self.image_column is None:
            return self.images[row]
        image = self.images[row][self.image_column].convert("RGB")
        random = np.random.default_rng([*key, row])
        crop = random_crop(image.size, random) if augment == "crop" else center_crop(image.size)
        size = (self.image_size, self.image_size)
        pixels = np.asarray(image.resize(size, box=crop, resample=2), np.float32) / 255  # 2 is bilinear
        if augment != "none" and random.random() < 0.5:
            pixels = pixels[:, ::-1]
        normal = (pixels - np.float32(MEAN)) / np.float32(STD)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32))


def center_crop(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest square in the middle."""
    side = min(size)
    left, top = ((length - side) / 2 for length in size)
    return left, top, left + side, top + side


def random_crop(size: tuple[int, int], random: np.random.Generator) -> tuple[float, float, float, float]:
    """A part of random area, shape and place (Szegedy et al., 2015); the middle if ten tries do not fit."""
    width, height = size
    for _ in range(10):
        area = width * height * random.uniform(*CROP_SCALE)
        ratio = np.exp(random.uniform(*np.log(CROP_RATIO)))
        w, h = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if w <= width and h <= height:
            left, top = random.uniform(0, width - w), random.uniform(0, height - h)
            return left, top, left + w, top + h
    return center_crop(size)


@dataclass
class TrainRows(Sequence):
    """Rows for the loader: pixels of an augmented view, label and row number; the view depends on seed, epoch and row.

    Args:
        split ([`Split`]): the items.
        augment (`str`): see [`Split.view`].
        seed (`int`): seed of the run.
        epoch (`int`, *optional*, defaults to 0): set by the loop, so that a resumed run sees the views it would have seen.
    """

    split: Split
    augment: str
    seed: int
    epoch: int = field(default=0)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> dict[str, Tensor]:  # type: ignore[override]  # no slices
        pixels = self.split.view(row, self.augment, (self.seed, self.epoch))
        return {"pixel_values": pixels, "labels": self.split.labels[row], "row": torch.tensor(row)}


def load_splits(args: argparse.Namespace) -> tuple[Split, Split]:
    """Training items, of the first classes only if asked for, and all test items."""
    if args.dataset == EMBEDDED:
        from eigenhub.embedded.glyphs import NUM_CLASSES, draw_glyphs

        drawn = draw_glyphs(seed=args.seed)
        train = drawn["train"].of_classes(args.num_classes or NUM_CLASSES)
        test = drawn["test"]
        return Split(*_reordered(train), args.num_classes or NUM_CLASSES), Split(*_reordered(test), NUM_CLASSES)
    train = load_split(args, args.dataset_split)
    if args.num_classes is not None:
        train = first_classes(train, args.num_classes)
    return train, load_split(args, args.eval_split)


def _reordered(glyphs: Any) -> tuple[list[str], Tensor, Tensor]:
    return glyphs.ids, glyphs.labels, glyphs.images


def load_split(args: argparse.Namespace, split: str) -> Split:
    """One split of a data set with an image, a label and perhaps an id."""
    from datasets import load_dataset

    rows = load_dataset(args.dataset, args.dataset_config, split=split)
    wanted = [args.image_column, args.label_column, *([args.id_column] if args.id_column else [])]
    if missing := [name for name in wanted if name not in rows.column_names]:
        raise ValueError(
            f"{args.dataset} has no column {missing[0]!r}; its columns are {', '.join(rows.column_names)}"
        )
    ids = (
        [str(name) for name in rows[args.id_column]] if args.id_column else [f"{split}:{i}" for i in range(len(rows))]
    )
    labels = torch.tensor(rows[args.label_column][:])
    classes = getattr(rows.features[args.label_column], "num_classes", None) or int(labels.max()) + 1
    return Split(ids, labels, rows, classes, args.image_column, args.image_size)


def first_classes(split: Split, number: int) -> Split:
    """The items of the first classes."""
    if number > split.classes:
        raise ValueError(f"--num_classes must be at most {split.classes}, got {number}")
    kept = (split.labels < number).nonzero().flatten().tolist()
    images = split.images.select(kept) if hasattr(split.images, "select") else split.images[kept]
    ids = [split.ids[row] for row in kept]
    return Split(ids, split.labels[kept], images, number, split.image_column, split.image_size)
