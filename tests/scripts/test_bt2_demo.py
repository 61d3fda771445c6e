# SPDX-License-Identifier: Apache-2.0
"""The BT2 demo on few steps: its table, its curve, its reload, and no second training."""

import re
from pathlib import Path

import pytest

from tests.support.devices import require_package
from tests.support.processes import ROOT, run_python


FOLDER = ROOT / "scripts" / "bt2"


@pytest.mark.parametrize(("flags", "said"), [(("--steps", "0"), "--steps must be at least 1, got 0")])
def test_bad_flags(tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    finished = run_python(FOLDER / "demo.py", *flags, folder=tmp_path, check=False)
    assert finished.returncode != 0 and said in finished.stderr and "Traceback" not in finished.stderr


@require_package("faiss")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo(tmp_path: Path) -> None:
    small = ("--output_dir", str(tmp_path / "out"), "--steps", "60")
    first = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=500)
    assert first.outside == []
    assert "reloaded in a fresh process: largest difference of the vectors 0\n" in first.stdout
    assert "eigenhub space bt2" in first.stdout and "cifar100_old.yaml" in first.stdout
    for name in ("backfill.png", "BT2/README.md", "BT2/model.safetensors", "index"):
        assert (tmp_path / "out" / name).exists()
    figures = {
        line.rsplit("  ", 3)[0].strip(): [float(x) for x in re.findall(r"\d+\.\d", line)[-3:]]
        for line in first.stdout.splitlines()
        if ", old index" in line or ", new index" in line or "Procrustes" in line
    }
    assert len(figures) == 8
    assert figures["new model trained alone, old index"][2] < figures["old model, old index"][2]
    assert figures["BT2, old index"][2] > figures["old model, old index"][2]
    curves = [line for line in first.stdout.splitlines() if line.startswith("old vectors")]
    left, right = ([float(x) for x in re.findall(r"\d+\.\d(?!\d)", line)][-6:] for line in curves)
    assert left[0] == right[0] and left[-1] == right[-1] > left[0]
    again = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=300)
    assert "trainable parameters" not in again.stdout, "a finished run was repeated"
    assert [line for line in again.stdout.splitlines() if line.startswith("old vectors")] == curves
