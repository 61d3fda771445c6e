# SPDX-License-Identifier: Apache-2.0
"""Tiny data sets in the layouts in which those of `train_lra.py` are published."""

import wave
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from eigenhub.embedded.listops import ListOpsRecipe, evaluate, expressions, lra_source


WORDS = """backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one
right seven sheila six stop three tree two up visual wow yes zero""".split()
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_release(task: str, folder: Path) -> None:
    """Write some twenty rows of a task into a new folder."""
    folder.mkdir(parents=True)
    WRITERS[task](folder)


def write_listops(folder: Path) -> None:
    recipe = ListOpsRecipe(max_depth=3, min_length=8, max_length=60)
    texts = list(islice(expressions(recipe), 24))
    for name, part in (("train", texts[:12]), ("val", texts[12:18]), ("test", texts[18:])):
        rows = "".join(f"{lra_source(text)}\t{evaluate(text)}\r\n" for text in part)
        (folder / f"basic_{name}.tsv").write_text(f"Source\tTarget\r\n{rows}", newline="")


def write_text(folder: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    for split in ("train", "test"):
        rows = {"text": [f"film number {i}, a {'good' if i % 2 else 'bad'} one" for i in range(12)]}
        columns = rows | {"label": [i % 2 for i in range(12)]}
        Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")


def write_retrieval(folder: Path) -> None:
    for split in ("train", "eval", "test"):
        lines = [f'{i % 2}.0\tA{i}\tB{i}\t"on graphs, part {i}"\tsecond paper with number {i}\n' for i in range(8)]
        (folder / f"new_aan_pairs.{split}.tsv").write_text("".join(lines))


def write_cifar(folder: Path) -> None:
    features = Features({"img": ImageFeature(), "label": ClassLabel(names=list(CLASSES))})
    draws = np.random.RandomState(0)
    for split in ("train", "test"):
        images = [Image.fromarray(draws.randint(0, 256, (32, 32, 3)).astype(np.uint8)) for _ in range(10)]
        Dataset.from_dict({"img": images, "label": list(range(10))}, features=features).to_parquet(
            folder / f"{split}.parquet"
        )


def write_pathfinder(folder: Path) -> None:
    part = folder / "curv_contour_length_14"
    draws = np.random.RandomState(0)
    for batch in (0, 1):
        pictures = part / "imgs" / str(batch)
        pictures.mkdir(parents=True)
        (part / "metadata").mkdir(exist_ok=True)
        lines = []
        for i in range(10):
            pixels = draws.choice([0, 255], (32, 32)).astype(np.uint8)
            Image.fromarray(pixels).save(pictures / f"sample_{i}.png")
            lines.append(f"imgs/{batch} sample_{i}.png {i} {i % 2} 1.0 6 14 3 2 0.5\n")
        (part / "metadata" / f"{batch}.npy").write_text("".join(lines))


def write_speech(folder: Path) -> None:
    """A recording of every word to learn from, one to choose by and two to test, one of them too short."""
    for number, word in enumerate(WORDS):
        write_wave(folder / word / "a_nohash_0.wav", 200 + 40 * number, 16_000)
    write_wave(folder / "yes" / "b_nohash_0.wav", 500, 16_000)
    write_wave(folder / "no" / "c_nohash_0.wav", 700, 9_000)
    write_wave(folder / "up" / "c_nohash_0.wav", 900, 16_000)
    write_wave(folder / "_background_noise_" / "hum.wav", 50, 16_000)
    (folder / "validation_list.txt").write_text("yes/b_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("no/c_nohash_0.wav\nup/c_nohash_0.wav\n")


def write_wave(path: Path, hertz: float, length: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((8000 * np.sin(2 * np.pi * hertz * np.arange(length) / 16_000)).astype("<i2").tobytes())


WRITERS: dict[str, Callable[[Path], None]] = {
    "listops": write_listops,
    "text": write_text,
    "retrieval": write_retrieval,
    "image": write_cifar,
    "scifar": write_cifar,
    "pathfinder": write_pathfinder,
    "pathx": write_pathfinder,
    "speech": write_speech,
}
