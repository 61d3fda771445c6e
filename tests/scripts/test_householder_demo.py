# SPDX-License-Identifier: Apache-2.0
"""The demo of the Householder projector: its report on made-up figures, and the whole of it on a few steps."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenhub.metrics.disentanglement import Effects
from tests.scripts.loading import load_script
from tests.support.processes import ROOT, run_python


FOLDER = ROOT / "scripts" / "householder"


@pytest.fixture(scope="module")
def report() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    yield load_script(FOLDER / "planted_report.py")
    sys.path.remove(str(FOLDER))


def test_the_table(report: Any, capsys: pytest.CaptureFixture) -> None:
    outside = {name: 0.1 * number for number, name in enumerate(report.LAYERS)}
    cosines = {name: [0.9, 0.6, 0.3, 0.0, 0.0] for name in report.LAYERS} | {"b8.conv1": [1.0, 0.8, 0.6, 0.0, 0.0]}
    report.print_table({"an arm": {"mse": 0.01234, "outside": outside, "cosines": cosines}})
    _, _, head, row, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["MSE", *report.LAYERS, "mean"]
    assert row.split() == ["an", "arm", "0.0123", "0.0", "10.0", "20.0", "30.0", "40.0", "0.640"]


def test_the_factor_that_a_direction_changes_most(report: Any) -> None:
    effects = Effects(torch.tensor([[1.0, 0, 0, 3, 0], [0, 0, 0, 0, 0]]), torch.ones(2), torch.ones(2))
    assert report.main_factor(effects, 0) == ("hue", 0.75)
    assert report.main_factor(effects, 1)[1] == 0.0


def test_strips_and_the_picture(report: Any, tmp_path: Path) -> None:
    import planted

    model = planted.new_generator(0)
    latent, vectors = torch.randn(32, generator=torch.Generator().manual_seed(0)), torch.eye(32)[:, :2]
    with torch.no_grad():
        images = report.strips(model, "b8.conv0", vectors, latent, torch.tensor([3.0, 5.0]), frames=3)
        middle = planted.images_of(model, latent[None])[0]
    assert images.shape == (2, 3, 3, 16, 16)
    torch.testing.assert_close(images[:, 1], middle.expand(2, -1, -1, -1), rtol=0, atol=1e-5)
    assert (images[:, 0] - images[:, 2]).abs().amax((1, 2, 3)).min() > 1e-2
    picture = report.tiled(images)
    assert picture.shape == (32, 48, 3) and picture.min() >= 0 and picture.max() <= 1
    corner = ((images[1, 2, :, 0, 0] + 1) / 2).clamp(0, 1).numpy()
    assert np.allclose(picture[16, 32], corner)
    effects = Effects(torch.rand(2, 5), torch.ones(2), torch.ones(2))
    report.draw({"one": (images, effects), "two": (images, effects)}, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_help_is_light(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "datasets", "accelerate", "matplotlib", "peft", "eigenhub")
    assert "--output_dir" in run_python(FOLDER / "demo.py", "--help", folder=tmp_path, block=heavy).stdout


@pytest.mark.parametrize(
    ("flags", "block", "said"),
    [
        (("--steps", "0"), (), "--steps must be at least 1, got 0"),
        (("--tune_steps", "-1"), (), "--tune_steps must be at least 1, got -1"),
        ((), ("matplotlib",), "matplotlib missing: pip install 'eigenhub[demo]'"),
    ],
)
def test_what_cannot_run_is_said(tmp_path: Path, flags: tuple, block: tuple, said: str) -> None:
    finished = run_python(FOLDER / "demo.py", *flags, folder=tmp_path, block=block, check=False)
    assert finished.returncode == 2 and said in finished.stderr and "Traceback" not in finished.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_demo(tmp_path: Path) -> None:
    small = ("--output_dir", "out", "--steps", "12", "--tune_steps", "6")
    first = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=600)
    assert first.outside == []
    for said in (
        "loaded in a fresh process: largest difference of the images 0\n",
        "folded into ordinary affines: images differ by",
        "every U, V turned by one rotation: images differ by",
        "projector, Jacobian basis    at b8.conv0: disentanglement 0.",
        "eigenhub space householder",
    ):
        assert said in first.stdout
    out = tmp_path / "out"
    assert (out / "directions.png").read_bytes().startswith(b"\x89PNG")
    kept = {path.parent.name: json.loads(path.read_text())["measures"] for path in out.glob("*/measures.json")}
    assert len(kept) == 7
    for arm, rank in (("pretrained", 32), ("control", 32), ("projector", 5), ("low_rank", 5)):
        assert set(kept[arm]["rank"].values()) == {rank}
    assert json.loads((out / "projector" / "config.json").read_text())["projector_rank"] == 5
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/model.safetensors")}
    again = run_python(FOLDER / "demo.py", *small, folder=tmp_path, timeout=300)
    assert written == {path: path.stat().st_mtime_ns for path in out.glob("*/model.safetensors")}, (
        "an arm was repeated"
    )
    assert "largest difference of the images 0\n" in again.stdout
