# SPDX-License-Identifier: Apache-2.0
"""Sixty letters and signs of the fonts that come with matplotlib, distorted and noisy: images with many classes."""

from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import Array3D, ClassLabel, Dataset, DatasetDict, Features, Value
from torch import Tensor
from torch.nn import functional as F


#: Eighteen Latin and Greek letters each, twelve Cyrillic ones, twelve signs; no two that fonts draw alike.
ALPHABET = "AEGKMRQWabdeghkqtyΓΔΘΛΞΣΦΨΩαβγδεζλμξБДЖЗИЛЦШЩЫЮЯ∂∇∞∫≈≠≤√±÷×∈"
NUM_CLASSES = len(ALPHABET)
IMAGE_SIZE = 28
#: All that have the whole alphabet.
FONTS = (
    *(f"DejaVu{family}{style}.ttf" for family in ("Sans", "SansMono") for style in ("", "-Bold", "-Oblique")),
    *(f"DejaVuSerif{style}.ttf" for style in ("", "-Bold", "-Italic")),
    *("STIXGeneral.ttf", "STIXGeneralBol.ttf"),
)
NOISE = 0.2
MAX_TURN = 12.0  # degrees
MAX_SHEAR = 0.2
MAX_SHIFT = 0.08  # of the half width
ZOOM_OUT = (0.85, 1.25)
_CANVAS = 2 * IMAGE_SIZE  # drawn twice as large, averaged down
_POINTS = 38


class Glyphs(NamedTuple):
    """Images of one split in memory.

    Args:
        ids (`list[str]`): one per image, unique over splits and seeds.
        images (`Tensor` of shape `(images, 1, 28, 28)`): dark 0, bright 1 before the noise.
        labels (`Tensor` of shape `(images,)`): classes in `[0, 60)`.
    """

    ids: list[str]
    images: Tensor
    labels: Tensor

    def of_classes(self, number: int) -> "Glyphs":
        """The images of the first classes.

        Args:
            number (`int`): how many classes.
        """
        kept = (self.labels < number).nonzero().flatten()
        return Glyphs([self.ids[row] for row in kept.tolist()], self.images[kept], self.labels[kept])


@lru_cache(maxsize=4)
def draw_glyphs(train_per_class: int = 40, test_per_class: int = 20, seed: int = 0) -> dict[str, Glyphs]:
    """
    Training and test images, drawn in a second.

    The order of the classes is shuffled, the same for every seed, so the first half of them is a mixture of all scripts.
    Both splits share the fonts, not the distortions.

    Args:
        train_per_class (`int`, *optional*, defaults to 40): training images of each of the 60 classes.
        test_per_class (`int`, *optional*, defaults to 20): test images of each class.
        seed (`int`, *optional*, defaults to 0): seed of fonts, distortions and noise.

    Returns:
        `dict[str, Glyphs]`: the splits `train` and `test`; not to be written to.
    """
    if train_per_class < 1 or test_per_class < 1:
        raise ValueError(f"each class needs images, got {train_per_class} for training and {test_per_class} for tests")
    random = np.random.RandomState(seed)  # its stream is frozen for ever
    return {
        split: _draw_split(split, number, seed, random)
        for split, number in (("train", train_per_class), ("test", test_per_class))
    }


def load_glyphs(train_per_class: int = 40, test_per_class: int = 20, seed: int = 0) -> DatasetDict:
    """
    The images of [`draw_glyphs`] as a dataset for an image classifier with one channel.

    Args:
        train_per_class (`int`, *optional*, defaults to 40): training images of each of the 60 classes.
        test_per_class (`int`, *optional*, defaults to 20): test images of each class.
        seed (`int`, *optional*, defaults to 0): seed of fonts, distortions and noise.

    Returns:
        `DatasetDict` with the splits `train` and `test` and the columns `item_id`, `pixel_values` and `labels`, in torch
        format.

    Example:

    ```python
    >>> from eigenhub.embedded.glyphs import load_glyphs

    >>> load_glyphs(2, 1)["train"][0]["pixel_values"].shape
    torch.Size([1, 28, 28])
    ```
    """
    features = Features(
        {
            "item_id": Value("string"),
            "pixel_values": Array3D((1, IMAGE_SIZE, IMAGE_SIZE), "float32"),
            "labels": ClassLabel(names=class_names()),
        }
    )
    splits = {}
    for name, glyphs in draw_glyphs(train_per_class, test_per_class, seed).items():
        columns = {"item_id": glyphs.ids, "pixel_values": glyphs.images.numpy(), "labels": glyphs.labels.numpy()}
        splits[name] = Dataset.from_dict(columns, features=features).with_format("torch")
    return DatasetDict(splits)


def class_names() -> list[str]:
    """The glyphs in the order of their labels."""
    order = np.random.RandomState(60).permutation(NUM_CLASSES)
    return [ALPHABET[place] for place in order]


def _draw_split(split: str, per_class: int, seed: int, random: np.random.RandomState) -> Glyphs:
    labels = np.repeat(np.arange(NUM_CLASSES), per_class)
    images = _distort(_drawn_glyphs()[labels, random.randint(len(FONTS), size=len(labels))], random)
    ids = [f"glyph-{seed}-{split}-{number:05d}" for number in range(len(labels))]
    return Glyphs(ids, images, torch.from_numpy(labels))


def _distort(drawn: Tensor, random: np.random.RandomState) -> Tensor:
    """Turned, sheared, shifted, scaled and noisy images `[rows, 1, 28, 28]` of drawings `[rows, 56, 56]`."""
    rows = len(drawn)
    turns = np.deg2rad(random.uniform(-MAX_TURN, MAX_TURN, rows))
    shears = random.uniform(-MAX_SHEAR, MAX_SHEAR, rows)
    zooms = random.uniform(*ZOOM_OUT, rows)
    maps = np.zeros((rows, 2, 3), np.float32)  # from places in the image to places in the drawing
    maps[:, 0, 0], maps[:, 0, 1] = zooms * np.cos(turns), zooms * (shears - np.sin(turns))
    maps[:, 1, 0], maps[:, 1, 1] = zooms * np.sin(turns), zooms * np.cos(turns)
    maps[:, :, 2] = random.uniform(-MAX_SHIFT, MAX_SHIFT, (rows, 2))
    grid = F.affine_grid(torch.from_numpy(maps), [rows, 1, _CANVAS, _CANVAS], align_corners=False)
    images = F.avg_pool2d(F.grid_sample(drawn[:, None], grid, align_corners=False), 2)
    noise = random.standard_normal(images.shape).astype(np.float32)
    return images + NOISE * torch.from_numpy(noise)


@cache
def _drawn_glyphs() -> Tensor:
    """Every class in every font, `[classes, fonts, 56, 56]`, in [0, 1]."""
    try:
        import matplotlib
        from matplotlib.ft2font import FT2Font
    except ImportError as error:
        raise ImportError(
            "The embedded glyphs are drawn with matplotlib's fonts: install it by `pip install 'eigenhub[demo]'`."
        ) from error
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [FT2Font(str(folder / name)) for name in FONTS]
    return torch.from_numpy(np.stack([[_draw(font, glyph) for font in fonts] for glyph in class_names()]))


def _draw(font: object, glyph: str) -> np.ndarray:
    """One glyph in the middle of a canvas, cut where it is larger."""
    font.set_size(_POINTS, 72)  # type: ignore[attr-defined]  # an FT2Font, whose module is optional
    font.set_text(glyph)  # type: ignore[attr-defined]
    font.draw_glyphs_to_bitmap(antialiased=True)  # type: ignore[attr-defined]
    drawn = np.asarray(font.get_image(), np.float32)[:_CANVAS, :_CANVAS] / 255  # type: ignore[attr-defined]
    canvas = np.zeros((_CANVAS, _CANVAS), np.float32)
    top, left = ((_CANVAS - side) // 2 for side in drawn.shape)
    canvas[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return canvas
