# SPDX-License-Identifier: Apache-2.0
"""Single trainings of the glyph proof: a method of `train_bt2.py`, or a map fitted after the fact."""

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eigenhub.embedded.glyph_models import glyph_embedder_folder
from eigenhub.embedded.glyphs import Glyphs, draw_glyphs
from eigenhub.linalg import procrustes
from eigenhub.models.bt2.backfill_curves import backfill_curve
from eigenhub.models.bt2.baseline_maps import fit_mlp, fit_ridge
from eigenhub.models.bt2.calibration import calibrate_old_scale
from eigenhub.models.bt2.modeling_bt2_embedder import Bt2EmbedderForImageClassification, teacher_of
from eigenhub.models.bt2.retrieval_metrics import LABEL_METRICS, rank
from eigenhub.models.bt2.retrieval_relevance import Relevance
from eigenhub.models.bt2.vector_training import TeacherVectors


SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "bt2"
SHAPE = ("--lr", "3e-3", "--warmup", "0.1", "--per_device_batch_size", "64", "--added_dim", "16")
MAPS: dict[str, Callable[[Tensor, Tensor, int], Callable[[Tensor], Tensor]]] = {
    "Procrustes": lambda new, old, seed: lambda rows: rows @ procrustes(new, old),
    "least squares": lambda new, old, seed: fit_ridge(new, old, 0.0),
    "ridge 0.01": lambda new, old, seed: fit_ridge(new, old, 1e-2),
    "residual MLP": lambda new, old, seed: fit_mlp(TeacherVectors(new.numpy(), old.numpy()), seed=seed),
}


def train(flags: tuple[str, ...], steps: int, seed: int, folder: str) -> dict[str, Any]:
    """Retrieval by pair after one run of the script.

    Args:
        flags (`tuple[str, ...]`): what tells the method apart; later ones win.
        steps (`int`): optimizer steps.
        seed (`int`): of data, teachers and run.
        folder (`str`): output of the run.
    """
    run, summary = _run([*SHAPE, *flags], steps, seed, folder)
    return {
        "retrieval": summary["retrieval"],
        "seconds": summary["seconds"],
        "parameters": summary["trainable_parameters"],
    }


def backfill(flags: tuple[str, ...], steps: int, seed: int, folder: str) -> dict[str, Any]:
    """Curves of a trained BT2 model while its gallery is backfilled: raw norms, unit vectors, calibrated scale.

    Half of the test images choose the scale, the other half is judged.

    Args:
        flags (`tuple[str, ...]`): see [`train`].
        steps (`int`): optimizer steps.
        seed (`int`): of data, teachers and run.
        folder (`str`): output of the run.
    """
    run, _ = _run([*SHAPE, *flags], steps, seed, folder)
    test, model = draw_glyphs(seed=seed)["test"], run.unwrapped
    old, new = teacher("old", seed, test), teacher_of(model, test.images)
    raw = 1 / (1 + model.config.scale**2) ** 0.5  # old vectors of norm 1 beside new ones of norm sqrt(1 + C^2)
    curves = {}
    for metric in ("cmc@1", "map"):
        chosen, judged = (relevance(test, part) for part in (0, 1))
        scale = calibrate_old_scale(new[0::2], chosen, old, new, metric=metric).old_scale
        for name, factor in (("raw norms", raw), ("unit vectors", 1.0), ("calibrated", scale)):
            curve = backfill_curve(new[1::2], old, new, judged, metric=metric, old_scale=factor, seed=seed)
            curves[f"{name}, {metric}"] = {
                "values": list(curve.values),
                "auc": curve.auc,
                "dip": curve.dip,
                "old_scale": factor,
            }
    return curves


def relevance(test: Glyphs, part: int) -> Relevance:
    """Every other test image as a query of the whole gallery."""
    labels, rows = test.labels.numpy(), list(range(part, len(test.ids), 2))
    return Relevance.of_labels(labels[rows], labels, [test.ids[row] for row in rows], test.ids)


def fitted_map(name: str, seed: int) -> dict[str, Any]:
    """Retrieval of a map from the new teacher's space into the old one, fitted on the training images.

    Args:
        name (`str`): of `MAPS`.
        seed (`int`): of data and teachers.
    """
    splits = draw_glyphs(seed=seed)
    old, new = ({split: teacher(g, seed, splits[split]) for split in splits} for g in ("old", "new"))
    fitted = MAPS[name](new["train"], old["train"], seed)
    with torch.no_grad():
        mapped = fitted(new["test"])
    labels, ids = splits["test"].labels.numpy(), splits["test"].ids
    right = Relevance.of_labels(labels, labels, ids, ids)
    pairs = {"new/old": old["test"], "new/new": mapped}
    return {
        "retrieval": {pair: rank(mapped, gallery, right).metrics(LABEL_METRICS) for pair, gallery in pairs.items()}
    }


def teacher(generation: Any, seed: int, glyphs: Glyphs) -> Tensor:
    """Vectors of one of the two teachers."""
    model = Bt2EmbedderForImageClassification.from_pretrained(glyph_embedder_folder(generation, seed=seed))
    return teacher_of(model, glyphs.images)


def _run(flags: list[str], steps: int, seed: int, folder: str) -> tuple[Any, dict[str, Any]]:
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    import train_bt2

    where = ["--max_steps", str(steps), "--seed", str(seed), "--output_dir", folder, "--logging_steps", str(steps)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return train_bt2.main([*flags, *where])
