# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: who can search the old index, and what searches find while it is backfilled."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eigenhub.embedded.glyph_models import glyph_embedder_folder
from eigenhub.embedded.glyphs import Glyphs, draw_glyphs
from eigenhub.linalg import procrustes
from eigenhub.models.bt2 import (
    Bt2EmbedderForImageClassification,
    Bt2Model,
    CompatibleIndex,
    EncoderIdentity,
    Relevance,
    calibrate_old_scale,
    rank,
    teacher_of,
    weights_fingerprint,
)


SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
METRICS = ("cmc@1", "cmc@5", "map")


def print_table(retrieval: dict[str, dict], upgrade: str, seed: int) -> None:
    """Old and new queries against old and new galleries, in per cent.

    Args:
        retrieval (`dict[str, dict]`): metrics by method and pair.
        upgrade (`str`): the method that knows its new teacher.
        seed (`int`): of data and teachers.
    """
    known = retrieval[upgrade]
    print(f"\n{'who searches the old index':44}" + "".join(f"{metric:>8}" for metric in METRICS))
    print_line("the old model", known["old/old"])
    print_line("the new model, trained alone", known["teacher/old"])
    print_line("the same, rotated (Procrustes)", rotated(seed))
    for method, found in retrieval.items():
        print_line(method, found["new/old"])
    print(f"\n{'who searches the index when all is embedded anew':44}")
    print_line("the new model, trained alone", known["teacher/teacher"])
    for method, found in retrieval.items():
        print_line(method, found["new/new"])
    print("What starts from the new model has seen the images twice as often as what starts from nothing.")


def print_line(what: str, values: dict[str, float]) -> None:
    print(f"{'  ' + what:44}" + "".join(f"{100 * values[metric]:8.1f}" for metric in METRICS))


def rotated(seed: int) -> dict[str, float]:
    """The new teacher's queries after the best rotation, fitted on the training images."""
    splits = draw_glyphs(seed=seed)
    old, new = ({name: teacher(which, seed, g) for name, g in splits.items()} for which in ("old", "new"))
    labels, ids = splits["test"].labels.numpy(), splits["test"].ids
    relevance = Relevance.of_labels(labels, labels, ids, ids)
    return rank(new["test"] @ procrustes(new["train"], old["train"]), old["test"], relevance).metrics(METRICS)


def teacher(which: str, seed: int, glyphs: Glyphs) -> torch.Tensor:
    folder = glyph_embedder_folder("old" if which == "old" else "new", seed=seed)
    return teacher_of(Bt2EmbedderForImageClassification.from_pretrained(folder), glyphs.images)


@dataclass(frozen=True)
class Curve:
    """First hits over the share of the index that is backfilled, as the index itself gave them."""

    name: str
    old_scale: float
    hits: tuple[float, ...]


def backfill_index(model_folder: Path, folder: Path, seed: int) -> list[Curve]:
    """Fills an index with old vectors, then replaces them batch by batch and searches in between.

    Every other image chooses the scale of old vectors, the rest is searched for.
    """
    test = draw_glyphs(seed=seed)["test"]
    model = Bt2Model.from_pretrained(model_folder)
    old, new = teacher("old", seed, test).numpy(), teacher_of(model, test.images).numpy()
    labels = test.labels.numpy()
    held_out = Relevance.of_labels(labels[0::2], labels, test.ids[0::2], test.ids)
    scale = calibrate_old_scale(new[0::2], held_out, old, new, metric="cmc@1", shares=SHARES, seed=seed).old_scale
    identity = EncoderIdentity("glyphs/old", old.shape[1])
    upgrade = EncoderIdentity("glyphs/new", new.shape[1], weights_fingerprint(model), compatible_with=identity)
    curves = []
    for name, factor in (("as they are", 1.0), ("calibrated", scale)):
        shutil.rmtree(folder, ignore_errors=True)
        index = CompatibleIndex.from_old(old, np.arange(len(old)), identity, new_identity=upgrade, folder=folder)
        index.set_old_scale(factor)
        curves.append(Curve(name, factor, tuple(searched_while_filled(index, upgrade, new, labels, seed))))
        index.close()
    return curves


def searched_while_filled(
    index: CompatibleIndex, identity: EncoderIdentity, new: np.ndarray, labels: np.ndarray, seed: int
) -> list[float]:
    """First hits at each share; items are replaced in a random order."""
    order = np.random.RandomState(seed).permutation(len(new))
    queries = np.arange(1, len(new), 2)
    found, done = [], 0
    for share in SHARES:
        due = order[done : round(share * len(order))]
        if len(due):
            index.backfill(due, new[due], identity=identity)
        done += len(due)
        ids = index.search(new[queries], k=2, identity=identity).ids
        first = np.where(ids[:, 0] == queries, ids[:, 1], ids[:, 0])  # an item does not find itself
        found.append(float((labels[first] == labels[queries]).mean()))
    return found


def print_curves(curves: list[Curve]) -> None:
    print(f"\n{'first hits while the index is backfilled':44}" + "".join(f"{share:8.0%}" for share in SHARES))
    for curve in curves:
        print(
            f"{f'old vectors {curve.name} (x {curve.old_scale:.2f})':44}"
            + "".join(f"{100 * h:8.1f}" for h in curve.hits)
        )


def draw_curves(curves: list[Curve], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    for curve in curves:
        axes.plot(
            SHARES, [100 * hit for hit in curve.hits], "o-", label=f"old vectors {curve.name}, x {curve.old_scale:.2f}"
        )
    axes.set(
        xlabel="share of the index embedded anew", ylabel="first hits, per cent", title="Searching while backfilling"
    )
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
