# SPDX-License-Identifier: Apache-2.0
"""Loaders of data sets: by way of Datasets, and the releases of the long range arena."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from datasets import Dataset

from eigenhub.models.bt2.text_pairs import read_pairs
from eigenhub.training.text_source import load_text_dataset
from tests.reliability.loader import Loader
from tests.scripts.loading import load_script
from tests.scripts.lra_releases import write_release
from tests.support.processes import ROOT


#: In the columns of GSM8K.
ROWS = [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}.\n#### {2 * n}"} for n in range(3)]
TABLES: dict[str, Callable[[Path], Any]] = {
    "parquet": lambda path: Dataset.from_list(ROWS).to_parquet(path),
    "csv": lambda path: Dataset.from_list(ROWS).to_csv(path),
    "jsonl": lambda path: Dataset.from_list(ROWS).to_json(path),
}


@cache
def lra_sources() -> ModuleType:
    """The readers of `train_lra.py`, with the module of options that they import by its plain name."""
    folder = ROOT / "scripts" / "s5_ptd"
    load_script(folder / "lra_options.py")
    return load_script(folder / "lra_sources.py")


def table(suffix: str) -> Callable[[Path], Path]:
    """Writes the rows into a file of a format."""

    def write(folder: Path) -> Path:
        TABLES[suffix](folder / f"rows.{suffix}")
        return folder / f"rows.{suffix}"

    return write


def release(task: str, name: str) -> Callable[[Path], Path]:
    """Writes a release and gives one of its files."""

    def write(folder: Path) -> Path:
        write_release(task, folder / "release")
        return folder / "release" / name

    return write


def a_picture(path: Path) -> Any:
    """Every picture of the folder that a picture lies in."""
    rows = lra_sources().PathfinderFiles(path.parents[3])
    return [rows[index] for index in range(len(rows))]


DATA_LOADERS = [
    Loader(
        f"{read.__name__} {suffix}",
        {"csv": "tsv"}.get(suffix, suffix),
        table(suffix),
        lambda path, read=read: read(str(path)),
        cuts=suffix == "parquet",
        slow=True,
    )
    for read in (load_text_dataset, read_pairs)
    for suffix in TABLES
]
DATA_LOADERS += [
    Loader(
        "ListOps",
        "tsv",
        release("listops", "basic_train.tsv"),
        lambda path: lra_sources().read_listops(path.parent),
        cuts=False,
        slow=True,
    ),
    Loader(
        "AAN",
        "tsv",
        release("retrieval", "new_aan_pairs.train.tsv"),
        lambda path: lra_sources().read_aan(path.parent),
        cuts=False,
        slow=True,
    ),
    Loader(
        "CIFAR-10",
        "parquet",
        release("image", "train.parquet"),
        lambda path: lra_sources().read_cifar(str(path.parent), True),
        slow=True,
    ),
    Loader(
        "Pathfinder picture",
        "png",
        release("pathfinder", "curv_contour_length_14/imgs/0/sample_0.png"),
        a_picture,
        cuts=False,  # zlib's last bytes are a checksum that Pillow does not ask for
    ),
    Loader(
        "Pathfinder listing",
        "tsv",
        release("pathfinder", "curv_contour_length_14/metadata/0.npy"),
        lambda path: lra_sources().PathfinderFiles(path.parents[2]),
        cuts=False,
    ),
    Loader(
        "Speech Commands recording",
        "wave",
        lambda folder: release("speech", "yes/b_nohash_0.wav")(folder),
        lambda path: lra_sources().SpeechFiles([(path, 0)])[0],
        cuts=False,  # samples that are missing are zeros
    ),
]
