# SPDX-License-Identifier: Apache-2.0
"""Images in the manner of Pathfinder: two dashed curves among distractors, two discs; do they lie on one curve?"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from datasets import Array3D, ClassLabel, Dataset, DatasetDict, Features

from eigenhub.embedded.cache import cached_folder


Mask = np.ndarray  # [size, size], bool
_PERIOD, _DASH = 3, 2  # pixels of a dash and its gap, pixels of a dash
_DISTRACTOR = 5  # pixels: two dashes
_CANDIDATES = 64  # random walks drawn at once
_BEND = 8  # over the size: standard deviation of the change of direction per pixel, in radians
_APART = 2  # empty pixels between two curves; a gap inside of a curve has one
_SAME_DISTANCE = 1.0  # pixels
_TRIES = 40  # batches of candidates before a scene is begun anew


@dataclass(frozen=True)
class PathfinderRecipe:
    """
    Which images there are.

    Args:
        size (`int`, *optional*, defaults to 32): pixels of a side, at least 16.
        num_train (`int`, *optional*, defaults to 4000): number of training images.
        num_test (`int`, *optional*, defaults to 1000): number of test images.
        curve_length (`int`, *optional*): pixels along each of the two curves, at most `size`; defaults to `size - 4`.
        num_distractors (`int`, *optional*): short pieces of curve around them; defaults to `size // 8`.
        seed (`int`, *optional*, defaults to 0): seed of the scenes.
    """

    size: int = 32
    num_train: int = 4_000
    num_test: int = 1_000
    curve_length: int | None = None
    num_distractors: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"`size` must be at least 16, got {self.size}")
        if not 8 <= self.length <= self.size:
            raise ValueError(f"`curve_length` must be between 8 and {self.size}, got {self.length}")
        if self.num_train < 2 or self.num_test < 2 or self.num_train % 2 or self.num_test % 2:
            counts = f"{self.num_train} and {self.num_test}"
            raise ValueError(f"`num_train` and `num_test` must be even, for equal halves, got {counts}")

    @property
    def length(self) -> int:
        """Pixels along a curve."""
        return self.size - 4 if self.curve_length is None else self.curve_length

    @property
    def distractors(self) -> int:
        """Number of distractors asked for."""
        return self.size // 8 if self.num_distractors is None else self.num_distractors


def load_pathfinder(recipe: PathfinderRecipe = PathfinderRecipe()) -> DatasetDict:  # noqa: B008  # frozen
    """
    Binary images with two discs that are the ends of one dashed curve (label 1) or of two (label 0), half of each.

    A scene (curves and distractors, none of which touch) is drawn before its label. It is kept if a pair of ends of one
    curve is as far apart, to a pixel, as a pair of ends of both; the label then says which of the two pairs gets the
    discs. So the distance of the discs tells nothing, and a linear classifier finds nothing either: a curve has to be traced.

    Args:
        recipe (`PathfinderRecipe`, *optional*, defaults to `PathfinderRecipe()`): sizes and seed.

    Returns:
        `DatasetDict` with the splits `train` and `test` and the columns `pixel_values` (`(1, size, size)`, -1 or 1, torch
        format) and `labels`. Generated once (some five milliseconds an image), then kept in the cache.

    Example:

    ```python
    >>> from eigenhub.embedded.pathfinder import PathfinderRecipe, load_pathfinder

    >>> load_pathfinder(PathfinderRecipe(size=16, num_train=8, num_test=2))["train"][0]["pixel_values"].shape
    torch.Size([1, 16, 16])
    ```

    After Linsley et al., arXiv 1805.08315, in the form of Long Range Arena. Theirs are grey and antialiased; these are not.
    """

    def build(folder: Path) -> None:
        _generate(recipe).save_to_disk(folder)

    return DatasetDict.load_from_disk(cached_folder("pathfinder", asdict(recipe), build)).with_format("torch")


def draw_scene(recipe: PathfinderRecipe, generator: np.random.RandomState) -> tuple[Mask, np.ndarray]:
    """
    Two dashed curves that keep a distance from each other and from the distractors around them.

    Args:
        recipe (`PathfinderRecipe`): sizes; the seed is not looked at.
        generator (`np.random.RandomState`): source of the draws.

    Returns:
        The image without discs, and the four ends as `[curve, end, row and column]`.
    """
    while True:
        taken = np.zeros((recipe.size, recipe.size), bool)
        curves = []
        for _ in range(2):
            if (curve := _curve(recipe.length, taken, generator, _TRIES)) is not None:
                curves.append(curve)
                around_ends = _discs(curve[[0, -1]], recipe.size, _radius(recipe.size) + _APART)
                taken |= _grown(_drawn(curve, recipe.size), _APART) | around_ends
        if len(curves) < 2:
            continue
        image = np.logical_or(*(_dashed(curve, recipe.size) for curve in curves))
        for _ in range(recipe.distractors):
            if (piece := _curve(_DISTRACTOR, taken, generator, 1)) is not None:
                image |= _dashed(piece, recipe.size)
                taken |= _grown(_drawn(piece, recipe.size), _APART)
        return image, np.array([curve[[0, -1]] for curve in curves])


def choose_pairs(ends: np.ndarray, generator: np.random.RandomState) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Two places for the discs, one for each label, at equal distance.

    Args:
        ends (`np.ndarray`): ends of the curves, `[curve, end, row and column]`.
        generator (`np.random.RandomState`): chooses where there are several.

    Returns:
        Two ends of one curve, and one of each, as `[disc, row and column]`; `None` if no distances agree.
    """
    separate = [np.stack([ends[0, i], ends[1, j]]) for i in (0, 1) for j in (0, 1)]
    both = [(one, two) for one in ends for two in separate if abs(_distance(one) - _distance(two)) <= _SAME_DISTANCE]
    return both[generator.randint(len(both))] if both else None


def mark(image: Mask, discs: np.ndarray) -> Mask:
    """
    The scene with discs on it.

    Args:
        image (`np.ndarray`): scene of [`draw_scene`].
        discs (`np.ndarray`): centres, `[disc, row and column]`.
    """
    return image | _discs(discs, len(image), _radius(len(image)))


def _distance(pair: np.ndarray) -> float:
    return float(np.linalg.norm(pair[0] - pair[1]))


def _radius(size: int) -> float:
    return 1.0 if size < 32 else 1.5  # a cross of five pixels, a square of nine


def _curve(length: int, taken: Mask, generator: np.random.RandomState, tries: int) -> np.ndarray | None:
    """Pixels of a smooth random walk inside the frame, off the taken ones and not close to itself; `None` if none was found."""
    size = len(taken)
    for _ in range(tries):
        start = generator.uniform(1, size - 2, (_CANDIDATES, 1, 2))
        turns = generator.normal(0, _BEND / size, (_CANDIDATES, length - 1))
        turns[:, 0] = generator.uniform(0, 2 * np.pi, _CANDIDATES)
        angles = turns.cumsum(1)
        steps = np.stack([np.sin(angles), np.cos(angles)], 2)
        walks = np.concatenate([start, start + steps.cumsum(1)], 1)  # [candidates, length, 2]
        walks = walks[((walks >= 1) & (walks <= size - 2)).all((1, 2))]
        pixels = walks.round().astype(int)
        free = ~taken[pixels[..., 0], pixels[..., 1]].any(1)
        for walk, line in zip(walks[free], pixels[free], strict=True):
            if not _comes_back(walk):
                return line
    return None


def _comes_back(walk: np.ndarray) -> bool:
    """Whether two points that are far along the walk are near in the plane."""
    distance = np.abs(walk[:, None] - walk[None]).max(2)
    order = np.arange(len(walk))
    return bool((distance[np.abs(order[:, None] - order) >= 5] < 3).any())


def _drawn(pixels: np.ndarray, size: int) -> Mask:
    mask = np.zeros((size, size), bool)
    mask[pixels[:, 0], pixels[:, 1]] = True
    return mask


def _dashed(pixels: np.ndarray, size: int) -> Mask:
    return _drawn(pixels[np.arange(len(pixels)) % _PERIOD < _DASH], size)


def _grown(mask: Mask, by: int) -> Mask:
    """The mask and every pixel within a square of `2 by + 1` around one of its own."""
    padded = np.pad(mask, by)
    size, reach = len(mask), range(2 * by + 1)
    return np.logical_or.reduce([padded[i : i + size, j : j + size] for i in reach for j in reach])


def _discs(centres: np.ndarray, size: int, radius: float) -> Mask:
    rows, columns = np.ogrid[:size, :size]
    return np.logical_or.reduce([(rows - r) ** 2 + (columns - c) ** 2 <= radius**2 for r, c in centres])


def _generate(recipe: PathfinderRecipe) -> DatasetDict:
    # RandomState's stream is frozen for ever, which numpy does not promise of default_rng.
    generator = np.random.RandomState(recipe.seed)
    return DatasetDict(
        {
            name: _split(recipe, count, generator)
            for name, count in (("train", recipe.num_train), ("test", recipe.num_test))
        }
    )


def _split(recipe: PathfinderRecipe, count: int, generator: np.random.RandomState) -> Dataset:
    labels = generator.permutation(np.repeat([0, 1], count // 2))
    images = np.stack([_example(recipe, bool(label), generator) for label in labels])
    pixels = images[:, None] * np.float32(2) - np.float32(1)  # [images, 1, size, size]
    shape = (1, recipe.size, recipe.size)
    features = Features(
        {"pixel_values": Array3D(shape, "float32"), "labels": ClassLabel(names=["two curves", "one curve"])}
    )
    return Dataset.from_dict({"pixel_values": pixels, "labels": labels}, features=features)


def _example(recipe: PathfinderRecipe, connected: bool, generator: np.random.RandomState) -> Mask:
    while True:
        image, ends = draw_scene(recipe, generator)
        if (pairs := choose_pairs(ends, generator)) is not None:
            return mark(image, pairs[0] if connected else pairs[1])
