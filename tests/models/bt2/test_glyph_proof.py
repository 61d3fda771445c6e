# SPDX-License-Identifier: Apache-2.0
"""The orderings that the documentation claims, on two seeds of the embedded glyphs; a chain of updates; no dip."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eigenhub.embedded.glyph_models import glyph_embedder_folder
from eigenhub.embedded.glyphs import draw_glyphs
from eigenhub.linalg import procrustes
from eigenhub.models.bt2 import Bt2EmbedderForImageClassification, Bt2Model, teacher_of
from eigenhub.models.bt2.backfill_curves import backfill_curve
from eigenhub.models.bt2.calibration import calibrate_old_scale
from eigenhub.models.bt2.retrieval_metrics import LABEL_METRICS, rank
from eigenhub.models.bt2.retrieval_relevance import Relevance
from tests.scripts.loading import load_script
from tests.support.processes import ROOT


SCRIPT = ROOT / "scripts" / "bt2" / "train_bt2.py"
SHAPE = ("--lr", "3e-3", "--warmup", "0.1", "--per_device_batch_size", "64", "--max_steps", "555", "--added_dim", "16")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def script() -> Any:
    sys.path.insert(0, str(SCRIPT.parent))
    yield load_script(SCRIPT)
    sys.path.remove(str(SCRIPT.parent))


def train(script: Any, folder: Path, seed: int, *flags: str) -> dict[str, dict]:
    _, summary = script.main([*SHAPE, *flags, "--seed", str(seed), "--output_dir", str(folder)])
    return summary["retrieval"]


@pytest.fixture(scope="module", params=[0, 1])
def upgrade(request: pytest.FixtureRequest, script: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained BT2 model, its seed, its folder and what it finds."""
    folder = tmp_path_factory.mktemp(f"glyphs-{request.param}")
    return request.param, folder, train(script, folder, request.param)


def teacher(generation: Any, seed: int, images: Tensor) -> Tensor:
    model = Bt2EmbedderForImageClassification.from_pretrained(glyph_embedder_folder(generation, seed=seed))
    return teacher_of(model, images)


def test_new_queries_search_the_old_gallery_better_than_old_ones(upgrade: Any) -> None:
    _, _, found = upgrade
    assert found["teacher/old"]["cmc@1"] < 0.08 < found["old/old"]["cmc@1"]
    assert found["new/old"]["cmc@1"] >= found["old/old"]["cmc@1"] + 0.08
    assert found["new/old"]["map"] > found["old/old"]["map"]


def test_the_backfilled_gallery_is_as_good_as_that_of_the_teacher(upgrade: Any) -> None:
    _, _, found = upgrade
    assert found["new/new"]["map"] >= found["teacher/teacher"]["map"] - 0.01


def test_a_baseline_pays_after_the_backfill(upgrade: Any, script: Any, tmp_path: Path) -> None:
    seed, _, found = upgrade
    bct = train(script, tmp_path, seed, "--method", "bct")
    assert found["new/new"]["cmc@1"] >= bct["new/new"]["cmc@1"] + 0.01


def test_a_rotation_after_the_fact_is_behind(upgrade: Any) -> None:
    seed, _, found = upgrade
    splits = draw_glyphs(seed=seed)
    turn = procrustes(*(teacher(which, seed, splits["train"].images) for which in ("new", "old")))
    old, new = (teacher(which, seed, splits["test"].images) for which in ("old", "new"))
    labels, ids = splits["test"].labels.numpy(), splits["test"].ids
    turned = rank(new @ turn, old, Relevance.of_labels(labels, labels, ids, ids)).metrics(LABEL_METRICS)
    assert turned["cmc@1"] <= found["new/old"]["cmc@1"] - 0.05


def test_no_dip_with_a_calibrated_scale(upgrade: Any) -> None:
    """The scale is chosen on one half of the queries and judged on the other."""
    seed, folder, _ = upgrade
    test = draw_glyphs(seed=seed)["test"]
    old, new = teacher("old", seed, test.images), teacher_of(Bt2Model.from_pretrained(folder), test.images)
    labels = test.labels.numpy()
    halves = [Relevance.of_labels(labels[h::2], labels, test.ids[h::2], test.ids) for h in (0, 1)]
    chosen = calibrate_old_scale(new[0::2], halves[0], old, new, metric="map")
    curve = backfill_curve(new[1::2], old, new, halves[1], metric="map", old_scale=chosen.old_scale)
    assert curve.dip >= 0.95
    raw = backfill_curve(new[1::2], old, new, halves[1], metric="map", old_scale=5**-0.5)
    assert curve.auc > raw.auc, "norms of the official code are no better"


def test_three_generations(upgrade: Any, script: Any, tmp_path: Path) -> None:
    """The whole vector of one update is the old one of the next, and its front still meets the first gallery."""
    seed, folder, first = upgrade
    found = train(script, tmp_path, seed, "--old_model", str(folder))
    model = Bt2Model.from_pretrained(tmp_path)
    assert (model.config.old_dim, model.config.embedding_dim) == (48, 48)
    assert found["new/old"]["map"] > found["old/old"]["map"] - 0.03
    test = draw_glyphs(seed=seed)["test"]
    oldest, newest = teacher("old", seed, test.images), teacher_of(model, test.images)
    labels = test.labels.numpy()
    across = rank(newest, oldest, Relevance.of_labels(labels, labels, test.ids, test.ids)).metrics(LABEL_METRICS)
    assert across["map"] > first["old/old"]["map"]
    assert torch.linalg.vector_norm(newest, dim=-1).allclose(torch.ones(len(newest)))
