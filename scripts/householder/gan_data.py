# SPDX-License-Identifier: Apache-2.0
"""Images in the form that both networks work on: the embedded ones, or any data set of images."""

import argparse
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import skip_first_batches
from gan_options import EMBEDDED_DATA
from torch import Tensor
from torch.nn.functional import interpolate

from eigenhub.training.text_source import load_text_dataset


MODES = {1: "L", 3: "RGB", 4: "RGBA"}
SHAPES = 20_000


@dataclass
class ImageRows(Sequence):
    """Rows for the loader: an image from -1 to 1 and its label, 0 where there are none.

    Args:
        images (`Any`): a tensor of images, or rows of a data set.
        size (`int`): side of the images.
        channels (`int`): 1, 3 or 4.
        labels (`Tensor` of shape `(rows,)`, *optional*): classes.
        classes (`int`, *optional*, defaults to 0): number of classes.
        column (`str`, *optional*): column of the image in a row of `images`.
        flip (`bool`, *optional*, defaults to `False`): mirror half of the images.
        seed (`int`, *optional*, defaults to 0): of the mirroring.
        factors (`Tensor` of shape `(rows, factors)`, *optional*): what the images were drawn from.
        epoch (`int`, *optional*, defaults to 0): set by the loop, so that a resumed run sees what it would have seen.
    """

    images: Any
    size: int
    channels: int
    labels: Tensor | None = None
    classes: int = 0
    column: str | None = None
    flip: bool = False
    seed: int = 0
    factors: Tensor | None = None
    epoch: int = field(default=0)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> dict[str, Tensor]:  # type: ignore[override]  # no slices
        image = self.image(row)
        if self.flip and np.random.default_rng((self.seed, self.epoch, row)).random() < 0.5:
            image = image.flip(2)
        label = torch.zeros((), dtype=torch.long) if self.labels is None else self.labels[row]
        return {"image": image, "label": label}

    def image(self, row: int) -> Tensor:
        """One image as it is, `[channels, size, size]`.

        Args:
            row (`int`): which.
        """
        if self.column is None:
            return self.images[row]
        from PIL import Image, ImageOps

        picture = self.images[row][self.column].convert(MODES[self.channels])
        if picture.size != (self.size, self.size):
            picture = ImageOps.fit(picture, (self.size, self.size), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(picture, dtype=np.float32)).view(self.size, self.size, self.channels)
        return (pixels / 127.5 - 1).permute(2, 0, 1).contiguous()


def load_rows(args: argparse.Namespace, size: int, channels: int | None, labelled: bool) -> ImageRows:
    """The images of a run.

    Args:
        args (`argparse.Namespace`): with the options of the data.
        size (`int`): side of the images.
        channels (`int`, *optional*): by default 1 for digits, else 3.
        labelled (`bool`): whether labels are needed.
    """
    channels = channels or (1 if args.dataset == "digits" else 3)
    if args.dataset in EMBEDDED_DATA:
        load = load_digit_rows if args.dataset == "digits" else load_shape_rows
        rows = load(args, size)
        rows.images = in_channels(rows.images, channels)
        rows.channels = channels
        if labelled and rows.labels is None:
            raise ValueError(f"--dataset {args.dataset} has no labels")
    else:
        rows = load_picture_rows(args, size, channels, labelled)
    rows.flip, rows.seed = args.flip, args.seed
    return rows


def load_digit_rows(args: argparse.Namespace, size: int) -> ImageRows:
    """scikit-learn's digits, enlarged from 8 x 8 pixels."""
    from eigenhub.embedded.digits import NUM_CLASSES, load_digits

    columns = load_digits()["train"][: args.num_images]
    images = interpolate(columns["pixel_values"], size=(size, size), mode="bilinear", align_corners=False)
    return ImageRows(images, size, 1, columns["labels"], NUM_CLASSES)


def load_shape_rows(args: argparse.Namespace, size: int) -> ImageRows:
    """Shapes drawn from known factors."""
    from eigenhub.embedded.shapes import load_shapes

    drawn = load_shapes(args.num_images or SHAPES, size=size, seed=args.seed)
    return ImageRows(drawn["image"], size, 3, factors=drawn["factors"])


def load_picture_rows(args: argparse.Namespace, size: int, channels: int, labelled: bool) -> ImageRows:
    """An image folder or a data set of the Hub; pictures are cut to a square and resized when they are read."""
    split = args.dataset_split if args.num_images is None else f"{args.dataset_split}[:{args.num_images}]"
    rows: Any = load_text_dataset(args.dataset, split, args.dataset_config)
    check_columns(rows.features, args, labelled)
    labels, classes = None, 0
    if labelled:
        labels = torch.tensor(rows[args.label_column][:])
        if labels.min() < 0:
            raise ValueError(f"--label_column {args.label_column} of {args.dataset} must hold no negative numbers")
        classes = getattr(rows.features[args.label_column], "num_classes", None) or int(labels.max()) + 1
    return ImageRows(rows, size, channels, labels, classes, args.image_column)


def check_columns(features: Any, args: argparse.Namespace, labelled: bool) -> None:
    """Raises where the named columns are not there, or hold something else.

    Args:
        features (`Features`): of the data set.
        args (`argparse.Namespace`): with the names of the columns.
        labelled (`bool`): whether labels are needed.
    """
    from datasets import ClassLabel, Image, Value

    for name in [args.image_column, *([args.label_column] if labelled else [])]:
        if name not in features:
            raise ValueError(f"{args.dataset} has no column {name!r}; its columns are {', '.join(features)}")
    if not isinstance(features[args.image_column], Image):
        raise ValueError(f"--image_column {args.image_column} must hold images, got {features[args.image_column]}")
    label = features.get(args.label_column)
    if labelled and not (isinstance(label, ClassLabel) or (isinstance(label, Value) and "int" in label.dtype)):
        raise ValueError(f"--label_column {args.label_column} must hold numbers of classes, got {label}")


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Images of 1 or 3 channels with another number of them; an added opacity is full."""
    if images.shape[1] == 3 and channels == 1:
        return images.mean(1, keepdim=True)
    colours = images.expand(-1, min(channels, 3), -1, -1) if images.shape[1] == 1 else images
    return colours if channels < 4 else torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)


def endless_batches(loader: Any, rows: ImageRows, skip: int) -> Generator[dict[str, Tensor]]:
    """Batch after batch across epochs, from the one on that a resumed run has to see next.

    Args:
        loader (`DataLoader`): prepared.
        rows ([`ImageRows`]): what it reads.
        skip (`int`): number of batches seen.
    """
    epoch, offset = divmod(skip, len(loader))
    while True:
        loader.set_epoch(epoch)  # order and mirroring depend on the seed and the epoch alone
        rows.epoch = epoch
        yield from skip_first_batches(loader, offset) if offset else loader
        epoch, offset = epoch + 1, 0
