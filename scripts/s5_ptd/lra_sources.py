# SPDX-License-Identifier: Apache-2.0
"""Readers of the releases behind the tasks: the arena's folders, CIFAR-10, IMDb and Speech Commands."""

import csv
import io
import sys
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from lra_options import AAN_SPLITS, LRA_SPLITS
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from eigenhub.files import naming, read_text
from eigenhub.training.text_source import load_text_dataset


SPLITS = ("train", "validation", "test")
WORDS = tuple(
    """backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one right
    seven sheila six stop three tree two up visual wow yes zero""".split()
)
SPEECH_LENGTH = 16_000
SPEECH_ON_THE_HUB = "google/speech_commands"


def read_listops(folder: Path) -> DatasetDict:
    """The arena's `basic_*.tsv`, with the columns `text` and `labels`."""
    return DatasetDict(
        {
            split: _text_rows(
                folder / name,
                lambda row: {"text": row["Source"], "labels": int(row["Target"])},
                [str(digit) for digit in range(10)],
            )
            for split, name in zip(SPLITS, LRA_SPLITS, strict=True)
        }
    )


def read_aan(folder: Path) -> DatasetDict:
    """The arena's pairs of papers, with the columns `first`, `second` and `labels`."""
    names = ("label", "first_id", "second_id", "first", "second")
    return DatasetDict(
        {
            split: _text_rows(
                folder / name,
                lambda row: {"first": row["first"], "second": row["second"], "labels": int(float(row["label"]))},
                ["unrelated", "related"],
                names,
            )
            for split, name in zip(SPLITS, AAN_SPLITS, strict=True)
        }
    )


def _text_rows(
    path: Path,
    example: Callable[[dict[str, str]], dict[str, Any]],
    labels: list[str],
    names: Sequence[str] | None = None,
) -> Dataset:
    with naming(path):
        try:
            rows = [example(row) for row in _rows(path, names)]
        except KeyError as error:
            raise ValueError(f"there is no column {error}") from error
        if not rows:
            raise ValueError("the table has no rows")
        columns = [name for name in rows[0] if name != "labels"]
        features = Features({**{name: Value("string") for name in columns}, "labels": ClassLabel(names=labels)})
        return Dataset.from_list(rows, features=features)


def _rows(path: Path, names: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)  # whole papers in a cell
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, names, delimiter="\t")
        for row in rows:
            if None in row or None in row.values():
                raise ValueError(f"line {rows.line_num} must have {len(rows.fieldnames or ())} columns")
            yield row


def read_imdb(source: str) -> DatasetDict:
    """Reviews and their sentiment, with the columns `text` and `labels`; by Hub id or folder."""
    parts = {split: load_text_dataset(source, split) for split in ("train", "test")}
    return DatasetDict({split: rows.select_columns(["text", "label"]) for split, rows in parts.items()}).rename_column(
        "label", "labels"
    )


def read_cifar(source: str, grey: bool) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
    """Pixels `(images, channels, 32, 32)` as bytes and labels of each split, and the names of the classes."""
    found, names = {}, []
    for split in ("train", "test"):
        rows = load_text_dataset(source, split)
        image, label = ("img" if "img" in rows.column_names else "image"), "label"
        names = rows.features[label].names
        try:
            pixels = torch.stack([_pixels(row, grey) for row in rows[image]])
        except (OSError, SyntaxError, RuntimeError) as error:  # Pillow's, and pictures of different sizes
            raise ValueError(f"{source}: a picture of the split {split} is damaged: {error}") from error
        found[split] = (pixels, torch.tensor(rows[label][:]))
    return found, names


def _pixels(image: Image.Image, grey: bool) -> Tensor:
    array = np.array(image.convert("L" if grey else "RGB"))
    return torch.from_numpy(array).view(*array.shape[:2], -1).permute(2, 0, 1)


class PathfinderFiles(torch.utils.data.Dataset):
    """
    Images and labels of one `pathfinderN` folder of the arena's release, its hardest part, read when asked for.

    Args:
        folder (`Path`): such as `lra_release/pathfinder32`.
    """

    def __init__(self, folder: Path) -> None:
        part = folder / "curv_contour_length_14"
        self.examples = []
        for listing in sorted((part / "metadata").glob("*.npy"), key=lambda path: int(path.stem)):
            with naming(listing):
                for line in read_text(listing).splitlines():
                    place, name, _, label, *_ = line.split()
                    self.examples.append((part / place / name, int(label)))

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        path, label = self.examples[index]
        try:
            with Image.open(path) as image:
                return {"pixels": _pixels(image, grey=True), "labels": label}
        except UnidentifiedImageError as error:
            raise ValueError(
                f"{path} is not a picture; the release holds it {path.stat().st_size} bytes long"
            ) from error
        except (OSError, SyntaxError) as error:  # what Pillow raises for a picture that breaks off
            raise ValueError(f"{path} is a damaged picture: {error}") from error


class SpeechFiles(torch.utils.data.Dataset):
    """
    Recordings that are decoded when asked for, as `samples` (one second of 16-bit numbers) and `labels`.

    Args:
        recordings (`Sequence[tuple[Path, int]]`): files with their labels.
    """

    def __init__(self, recordings: Sequence[tuple[Path, int]]) -> None:
        self.recordings = recordings

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        path, label = self.recordings[index]
        return {"samples": decode_wave(path.read_bytes(), str(path)), "labels": label}


class SpeechRows(torch.utils.data.Dataset):
    """
    The same from a data set with the columns `audio` and `label`, in which other sounds than the words may occur.

    Args:
        rows (`Dataset`): recordings with their bytes.
    """

    def __init__(self, rows: Dataset) -> None:
        names = rows.features["label"].names
        self.words = [WORDS.index(names[label]) if names[label] in WORDS else None for label in rows["label"][:]]
        self.places = [place for place, word in enumerate(self.words) if word is not None]
        self.rows = rows.cast_column("audio", Audio(decode=False))  # the file's bytes: no codec is needed for them

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Tensor | int | None]:
        place = self.places[index]
        audio = self.rows[place]["audio"]
        return {"samples": decode_wave(audio["bytes"], audio["path"]), "labels": self.words[place]}


def read_speech(folder: Path | None) -> dict[str, torch.utils.data.Dataset]:
    """The 35 words by split: from the archive's folder, or without one from the Hub."""
    if folder is None:
        return {split: SpeechRows(rows) for split, rows in _speech_on_the_hub().items() if split in SPLITS}
    listed = {}
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        listed |= dict.fromkeys((folder / name).read_text().split(), split)
    found: dict[str, list[tuple[Path, int]]] = {split: [] for split in SPLITS}
    for label, word in enumerate(WORDS):
        for path in sorted((folder / word).glob("*.wav")):
            found[listed.get(f"{word}/{path.name}", "train")].append((path, label))
    return {split: SpeechFiles(recordings) for split, recordings in found.items()}


def _speech_on_the_hub() -> DatasetDict:
    try:
        return load_dataset(SPEECH_ON_THE_HUB, "v0.02")
    except RuntimeError as error:  # the repository holds a script, which datasets no longer runs
        if "scripts are no longer supported" not in str(error):
            raise
        return load_dataset(SPEECH_ON_THE_HUB, data_dir="v0.02", revision="refs/convert/parquet")


def decode_wave(content: bytes, name: str) -> Tensor:
    """The samples of a WAVE file of 16 bits and one channel at 16 kHz, cut or filled up to one second, `(16000,)`."""
    try:
        file = wave.open(io.BytesIO(content))
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{name} is no WAVE file: {error}") from error
    with file:
        channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
        if (channels, width, rate) != (1, 2, SPEECH_LENGTH):
            got = f"{channels} of {8 * width} bits at {rate} Hz"
            raise ValueError(f"{name}: expected one channel of 16 bits at 16000 Hz, got {got}")
        frames = file.readframes(SPEECH_LENGTH).ljust(2 * SPEECH_LENGTH, b"\0")
    return torch.from_numpy(np.frombuffer(frames, "<i2").astype(np.int16))
