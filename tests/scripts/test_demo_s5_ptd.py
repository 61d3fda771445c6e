# SPDX-License-Identifier: Apache-2.0
"""The demo of the state space models: its report on made-up runs, and the whole of it on a few steps."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts.loading import load_script
from tests.support.processes import ROOT, run_python


FOLDER = ROOT / "scripts" / "s5_ptd"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return load_script(FOLDER / "demo_report.py")


def made_up_run(folder: Path, clean: float, noisy: float, kappa: float | None) -> Path:
    folder.mkdir()
    summary = {
        "test_accuracy": clean,
        "noise": {"0.1": {"accuracy": clean, "loss": 1.0}, "1": {"accuracy": noisy, "loss": 2.0}},
        "noise_frequency": 325.42632,
        "ptd_info": None if kappa is None else {"kappa": kappa, "rel_frobenius": 0.0377},
        "parameters": 1234,
        "train_seconds": 5.0,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_table_and_figures(report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = {
        "S4D-LegS": report.summarise(made_up_run(tmp_path / "a", 0.96, 0.16, None)),
        "S4-PTD": report.summarise(made_up_run(tmp_path / "b", 0.95, 0.76, 7.081)),
    }
    report.print_table(rows, 140)
    lines = capsys.readouterr().out.splitlines()
    broken, holds = (next(line for line in lines if line.startswith(name)) for name in rows)
    assert broken.split() == ["S4D-LegS", "96.0%", "96.0%", "16.0%", "80.0", "-", "-"]
    assert holds.split() == ["S4-PTD", "95.0%", "95.0%", "76.0%", "19.0", "7.08", "3.8%"]
    assert "w = 325.4" in "\n".join(lines)
    report.draw_noise(rows, tmp_path / "noise.png")
    report.draw_transfer(tmp_path / "transfer.png")
    for name in ("noise.png", "transfer.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_help_is_light(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "datasets", "accelerate", "matplotlib", "eigenhub")
    assert "--output_dir" in run_python(FOLDER / "demo.py", "--help", folder=tmp_path, block=heavy).stdout


@pytest.mark.parametrize(
    ("flags", "block", "said"),
    [
        (("--steps", "9"), (), "--steps must be at least 10, got 9"),
        ((), ("matplotlib",), r"matplotlib missing: pip install 'eigenhub\[demo\]'"),
    ],
)
def test_what_cannot_run_is_said(tmp_path: Path, flags: tuple, block: tuple, said: str) -> None:
    finished = run_python(FOLDER / "demo.py", *flags, folder=tmp_path, block=block, check=False)
    assert finished.returncode == 2 and said.replace("\\", "") in finished.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_demo(tmp_path: Path) -> None:
    first = run_python(FOLDER / "demo.py", "--output_dir", "out", "--steps", "10", folder=tmp_path, timeout=600)
    assert first.outside == []
    assert "resumed from a checkpoint: largest difference of the weights 0\n" in first.stdout
    assert "6 models loaded in a fresh process: largest difference of the logits 0\n" in first.stdout
    assert "eigenhub space s5_ptd" in first.stdout and "s5_ptd_lra_listops.yaml" in first.stdout
    for name in ("noise.png", "transfer.png", "results.json", "s4-ptd-10/README.md"):
        assert (tmp_path / "out" / name).is_file()
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(rows) == ["S4D-LegS", "S4D-Lin", "S4-PTD", "S4-PTD, low rank", "S5", "S5-PTD"]
    again = run_python(FOLDER / "demo.py", "--output_dir", "out", "--steps", "10", folder=tmp_path, timeout=300)
    assert "on digits: 10 steps" in again.stdout.split("repeating")[1]  # the resumed run alone
    assert "on digits: 10 steps" not in again.stdout.split("repeating")[0], "a finished run was repeated"
