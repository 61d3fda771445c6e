# SPDX-License-Identifier: Apache-2.0
"""The demo of BT2: its report on made-up figures and on random vectors, and the whole of it on a few steps."""

import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.models.bt2.index_cases import unit_rows
from tests.scripts.loading import load_script
from tests.support.devices import require_package
from tests.support.processes import ROOT, run_python


FOLDER = ROOT / "scripts" / "bt2"
METHODS = (
    "BCT",
    "OCA",
    "BT2 from nothing, as published",
    "BCT from the new model",
    "BT2 from the new model",
)


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return load_script(FOLDER / "demo_report.py")


def values(first: float) -> dict[str, float]:
    return {"cmc@1": first, "cmc@5": 0.9, "map": 0.25}


def test_the_table(report: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(report, "rotated", lambda seed: values(0.35))
    known = {"old/old": values(0.3), "teacher/old": values(0.01), "teacher/teacher": values(0.7)}
    found = {"BCT": {"new/old": values(0.37), "new/new": values(0.59)}}
    found["BT2"] = known | {"new/old": values(0.42), "new/new": values(0.76)}
    report.print_table(found, "BT2", 0)
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines() if "90.0" in line]
    assert [(line[0], line[1]) for line in lines] == [
        ("the old model", "30.0"),
        ("the new model, trained alone", "1.0"),
        ("the same, rotated (Procrustes)", "35.0"),
        ("BCT", "37.0"),
        ("BT2", "42.0"),
        ("the new model, trained alone", "70.0"),
        ("BCT", "59.0"),
        ("BT2", "76.0"),
    ]
    assert all(line[2:] == ["90.0", "25.0"] for line in lines)


@require_package("faiss")
def test_searching_an_index_while_it_is_filled(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Old vectors are noise, new ones are their class: every share that is backfilled helps, by brute force too."""
    from eigenhub.models.bt2 import CompatibleIndex, EncoderIdentity

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    old = unit_rows(rng.normal(size=(60, 4)))
    new = unit_rows(np.hstack([0.1 * rng.normal(size=(60, 4)), np.eye(3)[labels]]))
    was = EncoderIdentity("old", 4)
    now = EncoderIdentity("new", 7, compatible_with=was)
    index = CompatibleIndex.from_old(old, np.arange(60), was, new_identity=now)
    hits = report.searched_while_filled(index, now, new, labels, 0)
    scores = new[:, :4] @ old.T
    np.fill_diagonal(scores, -1)
    assert hits[0] == pytest.approx((labels[scores.argmax(1)] == labels)[1::2].mean())
    assert len(hits) == 6 and hits[-1] == 1.0 and hits[0] < 0.7
    assert index.status().share == 1.0
    curve = report.Curve("as they are", 1.0, tuple(hits))
    report.print_curves([curve])
    assert f"{100 * hits[0]:.1f}" in capsys.readouterr().out
    report.draw_curves([curve], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_help_is_light(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "datasets", "accelerate", "matplotlib", "faiss", "eigenhub")
    assert "--output_dir" in run_python(FOLDER / "demo.py", "--help", folder=tmp_path, block=heavy).stdout


@pytest.mark.parametrize(
    ("flags", "block", "said"),
    [
        (("--steps", "0"), (), "--steps must be at least 1, got 0"),
        ((), ("faiss",), "faiss missing: pip install 'eigenhub[demo,search]'"),
        ((), ("matplotlib", "faiss"), "matplotlib and faiss missing: pip install 'eigenhub[demo,search]'"),
    ],
)
def test_what_cannot_run_is_said(tmp_path: Path, flags: tuple, block: tuple, said: str) -> None:
    finished = run_python(FOLDER / "demo.py", *flags, folder=tmp_path, block=block, check=False)
    assert finished.returncode == 2 and said in finished.stderr and "Traceback" not in finished.stderr


@require_package("faiss")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_demo(tmp_path: Path) -> None:
    small = ("--output_dir", "out", "--steps", "60")
    first = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=600)
    assert first.outside == []
    assert "reloaded in a fresh process: largest difference of the vectors 0\n" in first.stdout
    assert "eigenhub space bt2" in first.stdout and "cifar100_old.yaml" in first.stdout
    for name in ("backfill.png", "bt2-from-the-new-model/README.md", "bt2-from-the-new-model/model.safetensors"):
        assert (tmp_path / "out" / name).is_file()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert tuple(results["retrieval"]) == METHODS
    ours = results["retrieval"]["BT2 from the new model"]
    assert ours["teacher/old"]["map"] < ours["old/old"]["map"] < ours["new/old"]["map"]
    plain, calibrated = (curve["hits"] for curve in results["backfill"])
    assert plain[0] == calibrated[0] < plain[-1] == calibrated[-1]
    again = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=300)
    assert "trainable parameters" not in again.stdout, "a finished run was repeated"
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
